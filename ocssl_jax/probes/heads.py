"""Linear classifiers side by side: by several learning rates, on the same features.

Softmax regression by SGD with momentum, as `linear_sgd`, with an axis of classifiers.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ocssl_jax.core import Array, Key
from ocssl_jax.probes.linear import Weights, first_weights


class Heads(NamedTuple):
    """Classifiers side by side, and their momentum; both Weights with an axis k."""

    weights: Weights  # [k f c] and [k c] float32
    trace: Any


def train(
    key: Key,
    epochs: Callable[[], Iterable[np.ndarray]],
    y: np.ndarray,
    held: np.ndarray,
    *,
    rates: np.ndarray,
    batch_size: int,
    momentum: float,
) -> Weights:
    """Classifiers by all rates: those that see every row, then those that do not.

    Args:
      key: of first weights and order, used as `linear_sgd` does.
      epochs: gives features [n f] of every epoch, one after another.
      y: [n] positions of the classes 0 .. c - 1, each of which there is.
      held: positions of the rows held out; of none there are no second classifiers.
      rates: [r epochs] float32.
      batch_size: rows a step, at most n.
      momentum: of SGD.

    Returns:
      Weights [k f c] and [k c], k = 2 r, or r if no row is held out.
    """
    init_key, shuffle_key = jax.random.split(key)
    out = np.zeros(len(y), bool)
    out[held] = True
    partly = np.repeat([False, True][: 1 + bool(len(held))], len(rates))  # [k]
    rates = np.tile(rates, (len(partly) // len(rates), 1))
    heads, label = None, jnp.asarray(y)
    for number, x in enumerate(epochs()):
        heads = heads or beginning(init_key, x.shape[1], 1 + y.max(), len(partly))
        heads = _epoch(
            jax.random.fold_in(shuffle_key, number),
            heads,
            jnp.asarray(x),
            label,
            (jnp.asarray(out), jnp.asarray(partly)),
            jnp.asarray(rates[:, number]),
            batch_size=batch_size,
            momentum=momentum,
        )
    assert heads is not None
    return heads.weights


def beginning(key: Key, n_features: int, n_classes: int, count: int) -> Heads:
    """`count` classifiers that start as one does."""
    one = first_weights(key, n_features, n_classes)
    start = jax.tree.map(lambda x: jnp.repeat(x[None], count, axis=0), one)
    return Heads(start, optax.trace(decay=0.0).init(start))


@partial(jax.jit, static_argnames=("batch_size", "momentum"), donate_argnums=1)
def _epoch(
    key: Key,
    heads: Heads,
    x: Array,
    y: Array,
    held: tuple[Array, Array],
    rate: Array,
    *,
    batch_size: int,
    momentum: float,
) -> Heads:
    """One shuffled pass of all classifiers, at `rate` [k], over `x` [n f], `y` [n].

    `held` are the rows held out [n] and the classifiers to which they are [k].
    """
    batches, trace = len(y) // batch_size, optax.trace(decay=momentum)
    order = jax.random.permutation(key, len(y))[: batches * batch_size]
    out, partly = held

    def step(heads: Heads, rows: Array) -> tuple[Heads, None]:
        counts = ~(partly[:, None] & out[rows][None, :])
        gradient = jax.grad(summed_loss)(heads.weights, x[rows], y[rows], counts)
        direction, buffer = trace.update(gradient, heads.trace)
        moved = jax.tree.map(
            lambda w, d: w - rate.reshape(-1, *(1,) * (d.ndim - 1)) * d,
            heads.weights,
            direction,
        )
        return Heads(moved, buffer), None

    return jax.lax.scan(step, heads, order.reshape(batches, batch_size))[0]


def summed_loss(weights: Weights, x: Array, y: Array, counts: Array) -> Array:
    """Sum [] of each classifier's mean cross-entropy over the rows that count for it.

    Args:
      weights: [k f c] and [k c]; their gradients are independent of each other.
      x: [b f] features.
      y: [b] positions of the classes.
      counts: [k b] bool.
    """
    chex.assert_rank([x, weights.w], [2, 3])
    scores = jnp.einsum("bf,kfc->kbc", x, weights.w, precision="highest")
    scores = scores + weights.b[:, None, :]
    label = jnp.broadcast_to(y[None, :], counts.shape)
    terms = optax.softmax_cross_entropy_with_integer_labels(scores, label)
    rows = jnp.maximum(jnp.sum(counts, axis=1), 1)
    return jnp.sum(jnp.sum(jnp.where(counts, terms, 0.0), axis=1) / rows)
