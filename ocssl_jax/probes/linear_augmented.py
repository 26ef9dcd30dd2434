"""Linear evaluation of the SSL papers: a frozen encoder, augmented images, SGD.

CaSSLe's recipe (Fini et al. 2022, solo-learn's), which SpeedOSSL shares: each epoch the
encoder, its statistics frozen, sees every training image cropped and mirrored anew, and
a linear classifier takes SGD steps on what it gives. The rate is cut twice, nothing
decays; tests are on plain images.

Rates are swept at the cost of one: encoding takes the time, and all classifiers are
trained on the same features, side by side. Of each rate there are two. One never sees
the training images that are held out, which say afterwards how good the rate is; the
other sees all, and is the one that is reported of the best rate. So nothing is fitted
again, and no label is lost to the choice.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ocssl_jax.core import Key
from ocssl_jax.errors import TrainingError, UsageError
from ocssl_jax.probes.heads import train
from ocssl_jax.probes.labels import subset
from ocssl_jax.probes.linear import Weights, labels_of
from ocssl_jax.probes.linear_sgd import rates_of
from ocssl_jax.probes.protocol import Looking, Swept, checked
from ocssl_jax.views import Views

VIEWS = 0x76696577  # folded into the key of a fit: what views are drawn with


def linear_augmented(
    *,
    learning_rates: Sequence[float],
    held_out: float,
    epochs: int,
    batch_size: int,
    momentum: float,
    seed: int,
) -> Looking:
    """Make a linear probe on augmented images that chooses its learning rate.

    Args:
      learning_rates: the first rates; the best on the images held out is chosen, the
        smallest of those that are equally good. Of a single one nothing is held out.
      held_out: share of each class's training images that say which is best, in (0, 1),
        rounded, at least one.
      epochs: passes over the training images; 100 there.
      batch_size: rows a step, 256 there; an epoch drops the last partial batch, and
        data smaller than one batch is one batch. Classifiers to which images are held
        out leave these rows of a batch out of its mean.
      momentum: 0.9 there.
      seed: of the choice of the images held out; the same for every encoder.

    Returns:
      A `Looking`, its fit deterministic in its key.

    Raises:
      ValueError: if a setting is out of range. By `fit`: if the data is unusable;
        UsageError if the share held out leaves a class without images; TrainingError
        if no rate gives finite weights.
    """
    if min(epochs, batch_size) < 1:
        raise ValueError("epochs and batch_size must be at least 1")
    if not 0 < held_out < 1 or not 0 <= momentum < 1:
        raise ValueError("held_out must be in (0, 1), momentum in [0, 1)")
    if not learning_rates or not all(rate > 0 for rate in learning_rates):
        raise ValueError("learning_rates must be at least one, each above 0")
    if len(set(learning_rates)) < len(learning_rates):
        raise ValueError("learning_rates must differ from each other")
    rates = sorted(map(float, learning_rates))

    def fit(key: Key, views: Views, x: Any, y: Any) -> Swept:
        x, y = checked(x, y, name="training")
        classes = np.unique(y)
        held = held_rows(seed, y, held_out) if len(rates) > 1 else np.zeros(0, int)
        weights = train(
            key,
            partial(views.epochs, jax.random.fold_in(key, VIEWS), epochs),
            np.searchsorted(classes, y),
            held,
            rates=np.stack([rates_of(rate, epochs) for rate in rates]),
            batch_size=min(batch_size, len(y)),
            momentum=momentum,
        )
        return swept(weights, rates, classes, x[held], y[held])

    return Looking(fit)


def held_rows(seed: int, y: np.ndarray, share: float) -> np.ndarray:
    """Positions in `y` [n] of the rows that choose the rate, the same share a class.

    Raises:
      UsageError: if a class would be left without others.
    """
    held = subset(seed, y, ratio=share)
    if len(np.unique(np.delete(y, held))) < len(np.unique(y)):
        raise UsageError(
            f"linear_augmented holds out {share:g} of each class's labels to choose "
            f"its rate, and a class has too few of them; give one rate (--rates)"
        )
    return held


def swept(
    weights: Weights,
    rates: Sequence[float],
    classes: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
) -> Swept:
    """The classifier of the best rate, what `train` gave being judged.

    Args:
      weights: as `train` gives them.
      rates: [r] ascending.
      classes: [c] labels.
      x: [m f] plain features of the rows held out, m = 0 of a single rate.
      y: [m] their labels.

    Raises:
      TrainingError: if no rate's classifiers are finite.
    """
    count = len(weights.b)
    heads = [jax.tree.map(lambda part, i=i: part[i], weights) for i in range(count)]
    finite = [all(bool(jnp.isfinite(part).all()) for part in head) for head in heads]
    sound = np.reshape(finite, (-1, len(rates))).all(axis=0)
    judges = heads[-len(rates) :]  # which have not seen the rows
    right = [np.sum(_predict(head, classes, x) == y) for head in judges]
    accuracy = np.where(sound, 100.0 * np.asarray(right) / max(len(y), 1), np.nan)
    best = chosen(accuracy, rates)
    tried = dict(zip(rates, accuracy.tolist(), strict=True)) if len(y) else {}
    return Swept(partial(_predict, heads[best], classes), rates[best], tried)


def chosen(accuracy: np.ndarray, rates: Sequence[float]) -> int:
    """Position of the best rate, the first of those that are equally good.

    Args:
      accuracy: [r] on rows held out; NaN where a classifier is not finite.
      rates: [r].

    Raises:
      TrainingError: if all are NaN.
    """
    if np.isnan(accuracy).all():
        listed = ", ".join(f"{rate:g}" for rate in rates)
        raise TrainingError(
            f"linear_augmented: its classifiers are not finite at any learning rate of "
            f"{listed}; give smaller ones (--rates)"
        )
    return int(np.nanargmax(accuracy))


def _predict(head: Weights, classes: np.ndarray, x: Any) -> np.ndarray:
    positions = np.asarray(labels_of(head, jnp.asarray(x, jnp.float32)))
    labels: np.ndarray = classes[positions]
    return labels
