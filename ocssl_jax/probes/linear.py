"""Linear probe: softmax regression on L2-normalised features, rate by a plateau rule.

This is the probe of the OCSSL literature (CLA, CLIMB): Adam, at most `epochs` epochs,
the weights of the best validation epoch. An epoch is one jitted scan; the rule that
reads one number an epoch stays on the host.
"""

from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ocssl_jax.core import Array, Key
from ocssl_jax.losses import unit
from ocssl_jax.probes.plateau import Plateau, judge
from ocssl_jax.probes.protocol import Fit, Predict, checked

ADAM = optax.scale_by_adam()  # the rate is applied by hand: it changes between epochs


class Weights(NamedTuple):
    """Softmax regression."""

    w: Array  # [f c]
    b: Array  # [c]


def linear(
    *,
    learning_rate: float,
    epochs: int,
    batch_size: int,
    patience: int,
    factor: float,
    min_learning_rate: float,
) -> Fit:
    """Make a linear probe.

    Args:
      learning_rate: Adam's first rate; the suite uses 0.05.
      epochs: most passes over the training features; 100 in the suite.
      batch_size: rows a step, 256 in the suite; an epoch drops the last partial batch,
        and data smaller than one batch is one batch.
      patience: epochs without a rise of validation accuracy before the rate is divided.
      factor: what the rate is divided by; 3 in the suite.
      min_learning_rate: fitting stops once the rate is below it; 1e-4 in the suite.

    Returns:
      `fit(key, train_x [n f], train_y [n], val_x [m f], val_y [m]) -> predict`, and
      `predict(x [t f]) -> labels [t]`. Labels may be any integers. Deterministic in
      `key`; equal shapes and numbers of classes share one compilation.

    Raises:
      ValueError: if a setting is out of range; by `fit`, if data is unusable or there
        is no validation set.
    """
    if min(epochs, batch_size, patience) < 1:
        raise ValueError("epochs, batch_size and patience must be at least 1")
    if factor <= 1 or learning_rate <= 0 or min_learning_rate <= 0:
        raise ValueError("factor must be above 1, both learning rates above 0")
    rule = partial(
        judge, patience=patience, factor=factor, min_learning_rate=min_learning_rate
    )

    def fit(
        key: Key, train_x: Any, train_y: Any, val_x: Any = None, val_y: Any = None
    ) -> Predict:
        if val_x is None or val_y is None or not len(val_y):
            raise ValueError(
                "the linear probe needs a validation set to choose its epoch: hold one "
                "out, or use the ridge or knn probe"
            )
        x, y = checked(train_x, train_y, name="training")
        classes = np.unique(y)
        data = _normalised(x), jnp.asarray(np.searchsorted(classes, y))
        held = _validation(val_x, val_y, classes)
        epoch = partial(_epoch, batch_size=min(batch_size, len(y)))
        weights = _fit(
            key, data, held, len(classes), epoch, epochs, learning_rate, rule
        )
        return partial(_predict, weights, classes)

    return fit


def _fit(key, data, held, n_classes, epoch, epochs, learning_rate, rule) -> Weights:
    """The weights of the best validation epoch."""
    init_key, shuffle_key = jax.random.split(key)
    best = weights = first_weights(init_key, data[0].shape[1], n_classes)
    moments = ADAM.init(weights)
    state = Plateau(learning_rate, left=0)
    for i in range(epochs):
        epoch_key = jax.random.fold_in(shuffle_key, i)
        rate = jnp.float32(state.learning_rate)
        weights, moments = epoch(epoch_key, weights, moments, rate, data)
        state, improved, restore, stop = rule(state, _accuracy(weights, *held))
        best = weights if improved else best
        if stop:
            break
        weights = best if restore else weights  # Adam's moments are kept
    return best


def first_weights(key: Key, n_features: int, n_classes: int) -> Weights:
    """Uniform within 1/sqrt(f), weights and bias: the usual start of a linear layer."""
    w_key, b_key = jax.random.split(key)
    bound = n_features**-0.5
    w = jax.random.uniform(w_key, (n_features, n_classes), minval=-bound, maxval=bound)
    b = jax.random.uniform(b_key, (n_classes,), minval=-bound, maxval=bound)
    return Weights(w, b)


@partial(jax.jit, static_argnames="batch_size")
def _epoch(key, weights, moments, rate, data, *, batch_size):
    """One shuffled pass over `data` (x [n f], y [n]) in whole batches."""
    x, y = data
    n_batches = y.shape[0] // batch_size
    order = jax.random.permutation(key, y.shape[0])[: n_batches * batch_size]

    def step(carry, rows):
        weights, moments = carry
        gradient = jax.grad(softmax_loss)(weights, x[rows], y[rows])
        direction, moments = ADAM.update(gradient, moments)
        updates = jax.tree.map(lambda d: -rate * d, direction)
        return (optax.apply_updates(weights, updates), moments), None

    batches = order.reshape(n_batches, batch_size)
    return jax.lax.scan(step, (weights, moments), batches)[0]


def _logits(weights: Weights, x: Array) -> Array:
    chex.assert_rank(x, 2)
    return jnp.matmul(x, weights.w, precision="highest") + weights.b[None, :]


def softmax_loss(weights: Weights, x: Array, y: Array) -> Array:
    """Mean cross-entropy [] of the positions `y` [n] of the classes of `x` [n f]."""
    terms = optax.softmax_cross_entropy_with_integer_labels(_logits(weights, x), y)
    return jnp.mean(terms)


@jax.jit
def labels_of(weights: Weights, x: Array) -> Array:
    """Positions [n] of the classes that features `x` [n f] most likely are of."""
    return jnp.argmax(_logits(weights, x), axis=-1)


def _accuracy(weights: Weights, x: Array, y: np.ndarray) -> float:
    return float(np.mean(np.asarray(labels_of(weights, x)) == y))


def _predict(weights: Weights, classes: np.ndarray, x: Any) -> np.ndarray:
    return classes[np.asarray(labels_of(weights, _normalised(x)))]


def _validation(val_x, val_y, classes) -> tuple[Array, np.ndarray]:
    """Normalised features and class positions; -1, never right, for unknown classes."""
    x, y = checked(val_x, val_y, name="validation")
    known = np.isin(y, classes)
    return _normalised(x), np.where(known, np.searchsorted(classes, y), -1)


def _normalised(x: Any) -> Array:
    return unit(jnp.asarray(x, jnp.float32))
