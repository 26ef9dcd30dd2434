"""Objectives as pure functions on arrays, each per row and respecting a row mask."""

import chex
import jax
import jax.numpy as jnp

from ocssl_jax.core import Array

EPSILON = 1e-12  # inside the root: a zero vector keeps a zero, finite gradient


def unit(x: Array) -> Array:
    """Rows of `x` [... d] scaled to length 1; a zero row stays zero."""
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + EPSILON)


def cosine(x: Array, y: Array) -> Array:
    """Cosine similarity [...] of the last axes of `x` and `y` [... d]."""
    return jnp.sum(unit(x) * unit(y), axis=-1)


def masked_mean(values: Array, mask: Array) -> Array:
    """Mean [] of `values` [n] over the rows where `mask` [n] is True; 0 if none is."""
    chex.assert_equal_shape([values, mask])
    total = jnp.sum(jnp.where(mask, values, 0.0))
    return total / jnp.maximum(jnp.sum(mask), 1)


def nt_xent(z1: Array, z2: Array, mask: Array, *, temperature: float) -> Array:
    """Normalised temperature-scaled cross entropy of SimCLR (Chen et al. 2020, eq. 1).

    Args:
      z1: [n d] projections of the first view.
      z2: [n d] projections of the second view.
      mask: [n] bool, the rows that take part, as anchors and as negatives.
      temperature: the paper's tau.

    Returns:
      [n] the mean of each row's two terms, so that the mean over real rows is the
      paper's loss over 2n anchors; masked rows are 0.
    """
    chex.assert_equal_shape([z1, z2])
    n = z1.shape[0]
    chex.assert_shape(mask, (n,))
    u = unit(jnp.concatenate([z1, z2]).astype(jnp.float32))  # [2n d]
    # In full float32 on every platform: an accelerator would round to TF32.
    similarity = jnp.matmul(u, u.T, precision="highest") / temperature
    other = jnp.tile(mask, 2)[None, :] & ~jnp.eye(2 * n, dtype=bool)
    positive = jnp.sum(u[:n] * u[n:], axis=-1) / temperature  # [n]
    # A finite floor instead of -inf keeps fully masked rows finite, gradient included.
    log_z = jax.nn.logsumexp(jnp.where(other, similarity, -1e9), axis=-1)
    terms = log_z - jnp.tile(positive, 2)
    return jnp.where(mask, (terms[:n] + terms[n:]) / 2, 0.0)
