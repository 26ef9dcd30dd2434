"""Linear probe of the SSL papers: SGD, a fixed number of epochs, the rate cut twice.

This is CaSSLe's and SpeedOSSL's linear evaluation (solo-learn's recipe) on features
that are computed once, without its augmentation: a cheap monitor (`linear_augmented` is
the whole). Nothing is chosen on validation data.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ocssl_jax.core import Array, Key
from ocssl_jax.probes.linear import Weights, first_weights, labels_of, softmax_loss
from ocssl_jax.probes.protocol import Fit, Predict, checked

CUTS = (0.6, 0.8)  # of the epochs, after which the rate is a tenth of what it was


def linear_sgd(
    *, learning_rate: float, epochs: int, batch_size: int, momentum: float
) -> Fit:
    """Make a linear probe without validation.

    Args:
      learning_rate: the first; 0.1 (Barlow Twins) to 3 (BYOL) in CaSSLe's scripts.
      epochs: passes over the training features; 100 there.
      batch_size: rows a step, 256 there; an epoch drops the last partial batch, and
        data smaller than one batch is one batch.
      momentum: 0.9 there.

    Returns:
      `fit(key, train_x [n f], train_y [n], val_x, val_y) -> predict(x) -> labels`, on
      features as they are. Deterministic in `key`.

    Raises:
      ValueError: if a setting is out of range; by `fit`, if the data is unusable.
    """
    if min(epochs, batch_size) < 1:
        raise ValueError("epochs and batch_size must be at least 1")
    if learning_rate <= 0 or not 0 <= momentum < 1:
        raise ValueError("learning_rate must be above 0, momentum in [0, 1)")

    def fit(
        key: Key, train_x: Any, train_y: Any, val_x: Any = None, val_y: Any = None
    ) -> Predict:
        del val_x, val_y
        x, y = checked(train_x, train_y, name="training")
        classes = np.unique(y)
        weights = _fitted(
            key,
            jnp.asarray(x),
            jnp.asarray(np.searchsorted(classes, y)),
            jnp.asarray(rates_of(learning_rate, epochs)),
            classes=len(classes),
            batch_size=min(batch_size, len(y)),
            momentum=momentum,
        )

        def predict(new: Any) -> np.ndarray:
            features = jnp.asarray(new, jnp.float32)
            return classes[np.asarray(labels_of(weights, features))]

        return predict

    return fit


def rates_of(first: float, epochs: int) -> np.ndarray:
    """The learning rate of each epoch [epochs] float32."""
    cut = np.arange(epochs)[:, None] >= np.multiply(CUTS, epochs)[None, :]
    rates: np.ndarray = first * np.where(cut, 0.1, 1.0).prod(axis=1)
    return rates.astype(np.float32)


@partial(jax.jit, static_argnames=("classes", "batch_size", "momentum"))
def _fitted(
    key: Key,
    x: Array,
    y: Array,
    rates: Array,
    *,
    classes: int,
    batch_size: int,
    momentum: float,
) -> Weights:
    """Weights after an epoch of `x` [n f], `y` [n] for each of `rates` [epochs]."""
    init_key, shuffle_key = jax.random.split(key)
    batches, trace = len(y) // batch_size, optax.trace(decay=momentum)
    start = first_weights(init_key, x.shape[1], classes)

    def epoch(carry: Any, now: tuple[Array, Array]) -> tuple[Any, None]:
        number, rate = now
        order = jax.random.permutation(jax.random.fold_in(shuffle_key, number), len(y))

        def step(carry: Any, rows: Array) -> tuple[Any, None]:
            weights, buffer = carry
            gradient = jax.grad(softmax_loss)(weights, x[rows], y[rows])
            direction, buffer = trace.update(gradient, buffer)
            updates = jax.tree.map(lambda d: -rate * d, direction)
            return (optax.apply_updates(weights, updates), buffer), None

        rows = order[: batches * batch_size].reshape(batches, batch_size)
        return jax.lax.scan(step, carry, rows)[0], None

    numbered = jnp.arange(len(rates)), rates
    (weights, _), _ = jax.lax.scan(epoch, (start, trace.init(start)), numbered)
    return weights
