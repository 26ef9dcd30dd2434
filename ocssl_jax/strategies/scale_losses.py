"""SCALE's two losses (Yu et al. 2023) and the pseudo-positives of the first.

Shapes: n rows, f features, d projections; `mask` [n] bool says which rows are real.
"""

import jax
import jax.numpy as jnp

from ocssl_jax.core import Array
from ocssl_jax.losses import masked_mean, sup_con, unit

BASE_TEMPERATURE = 0.07  # of SupCon: its loss is scaled by temperature / 0.07
FLOOR = -1e9  # finite, unlike -inf: rows without company keep finite gradients


def company(mask: Array) -> Array:
    """[n n] bool: pairs of two different real rows."""
    return mask[:, None] & mask[None, :] & ~jnp.eye(len(mask), dtype=bool)


def pseudo_positives(
    e: Array, mask: Array, *, temperature: float, ratio: float, normalize: bool
) -> Array:
    """Which rows pass for the same class: those of outstanding similarity.

    The similarity of a pair is its probability under a softmax over all others, the
    mean of both directions and of the four pairs of views; outstanding is what lies
    above the mean by more than `ratio` of the way to the maximum.

    Args:
      e: [2 n f] features of two views.
      mask: [n] bool.
      temperature: of the negative squared distances.
      ratio: in [0, 1).
      normalize: scale the features to length 1, as the formula supposes.

    Returns:
      [n n] bool, symmetric, False on the diagonal and for masked rows.
    """
    x, pair = unit(e) if normalize else e, company(mask)
    # -(2 - 2 s) / temperature without its constant, which a softmax does not see.
    s = 2 * jnp.einsum("uif,vjf->uvij", x, x, precision="highest") / temperature
    s = jnp.where(pair[None, None], s, FLOOR)
    s = (jax.nn.softmax(s, axis=3) + jax.nn.softmax(s, axis=2)).mean(axis=(0, 1)) / 2
    s = jnp.where(pair, s, 0.0)
    mean = jnp.sum(s) / jnp.maximum(jnp.sum(pair), 1)
    return pair & (s > mean + ratio * (jnp.max(s) - mean))


def contrast(
    z: Array, mask: Array, rows: Array, positive: Array, *, temperature: float
) -> Array:
    """SupCon (Khosla et al. 2020) with `positive` pairs in the place of labels.

    Args:
      z: [2 n d] projections of two views.
      mask: [n] bool, rows that are anchors' negatives.
      rows: [n] bool, real rows that are anchors.
      positive: [n n] bool; a row's other view always is one.
      temperature: of the cosine similarities.

    Returns:
      [] the mean over both views of the anchors; 0 without anchors.
    """
    rate = temperature / BASE_TEMPERATURE
    return rate * sup_con(z, mask, rows, positive, temperature=temperature)


def distillation(
    current: Array,
    past: Array,
    mask: Array,
    *,
    temperature: float,
    past_temperature: float,
) -> Array:
    """Instance-wise relation distillation (IRD; Cha et al. 2021).

    Each row's similarities to all others, as a softmax, should stay as they were.

    Args:
      current: [n d] projections.
      past: [n d] projections of the past encoder.
      mask: [n] bool.
      temperature: of the current similarities.
      past_temperature: of the past ones.

    Returns:
      [] the mean cross entropy over real rows; 0 with fewer than two.
    """
    pair = company(mask)

    def relations(x: Array, temperature: float) -> Array:
        u = unit(x)
        s = jnp.matmul(u, u.T, precision="highest") / temperature
        return jax.nn.log_softmax(jnp.where(pair, s, FLOOR), axis=1)

    now, then = relations(current, temperature), relations(past, past_temperature)
    rows = -jnp.sum(jnp.where(pair, jnp.exp(then) * now, 0.0), axis=1)
    return masked_mean(rows, mask)
