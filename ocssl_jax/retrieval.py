"""Retrieval by loss: of a pool of rows, those whose loss rises most between weights.

         before                               after
RALS     the weights when the batch arrived   the present ones
MIR      the present weights                  those one virtual step ahead

What is chosen are units: single rows, or parts of several rows where an objective has
one loss for all of them (Barlow Twins). Losses are looked at, not differentiated.
"""

from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp

from ocssl_jax.core import Array, Batch, Key, Method, Model, Params
from ocssl_jax.losses import masked_mean


def units(key: Key, sources: Sequence[int], *, part: int, pure: bool) -> Array:
    """A pool in random order, cut into units.

    Ties of later scores then fall to chance: `top_k` prefers what comes first.

    Args:
      key: of the order.
      sources: rows of each source, which lie one after the other in the pool.
      part: rows of a unit.
      pure: units hold rows of one source only, whose sizes `part` must divide.

    Returns:
      [u part] int32, every position in the pool once.

    Raises:
      ValueError: if the rows do not make whole units.
    """
    blocks = list(sources) if pure else [sum(sources)]
    if any(rows % part for rows in blocks):
        words = " and ".join(map(str, blocks))
        raise ValueError(f"{words} rows do not make whole parts of {part}")
    keys = jax.random.split(key, len(blocks) + 1)
    first, found = 0, []
    for rows, k in zip(blocks, keys[1:], strict=True):
        found.append(first + jax.random.permutation(k, rows).reshape(-1, part))
        first += rows
    return jax.random.permutation(keys[0], jnp.concatenate(found)).astype(jnp.int32)


def taken(batch: Batch, rows: Array) -> Batch:
    """The rows [m] of a batch, in that order; which were replayed is not kept."""
    mask, items = jax.tree.map(lambda x: x[rows], (batch.mask, batch.items))
    return Batch(views=batch.views[:, rows], mask=mask, items=items)


def unit_losses(
    method: Method,
    params: Params,
    model: Model,
    batch: Batch,
    key: Key,
    *,
    part: int,
    train: bool,
) -> Array:
    """The loss of each unit of a batch, float32, the state left as it is.

    Where the objective is a loss a row it is that, with all other rows as negatives;
    else the whole objective of each part by itself.

    Args:
      method: the objective.
      params: its parameters.
      model: its untrained variables.
      batch: n rows, unit by unit.
      key: of what the objective draws; the same one makes two losses comparable.
      part: rows of a unit; 1 unless the objective is one of whole batches.
      train: BN uses the statistics of the batch, else the running ones.

    Returns:
      [n / part].
    """
    # What counts is small differences of losses, which products in TF32 would drown.
    with jax.default_matmul_precision("highest"):
        out = method.loss(params, model, batch, key, train=train)
    if not method.whole:
        chex.assert_equal(part, 1)
        return out.loss
    distance: Any = method.distill
    z1, z2 = (z.reshape(-1, part, z.shape[-1]) for z in out.z)
    rows = jax.vmap(distance)(z1, z2, batch.mask.reshape(-1, part))  # [u part]
    return jnp.max(rows, axis=1)  # the part's loss in each real row, 0 in the others


def virtual_step(
    method: Method, params: Params, model: Model, batch: Batch, key: Key, *, rate: float
) -> Params:
    """Where plain gradient descent on a batch would lead, no momentum, no decay.

    Args:
      method: the objective.
      params: its parameters, which stay as they are.
      model: its untrained variables, likewise.
      batch: n rows.
      key: of what the objective draws.
      rate: learning rate.
    """

    def mean(params: Params) -> Array:
        out = method.loss(params, model, batch, key)
        return masked_mean(out.loss, batch.loss_mask)

    slope = jax.grad(mean)(params)
    return jax.tree.map(lambda p, g: p - rate * g, params, slope)


def rise(before: Array, after: Array, real: Array) -> tuple[Array, Array]:
    """How much losses rise, and how many are no numbers.

    Args:
      before: [u] losses.
      after: [u] losses.
      real: [u] bool, units that hold a real row.

    Returns:
      [u] float32, after - before; -inf, chosen last, for units that are not real or of
      which a loss is not finite. And [] float32, the real ones of which it is not.
    """
    chex.assert_equal_shape([before, after, real])
    score = after.astype(jnp.float32) - before.astype(jnp.float32)
    known = jnp.isfinite(score)
    lost = jnp.sum(real & ~known, dtype=jnp.float32)
    return jnp.where(real & known, score, -jnp.inf), lost


def highest(score: Array, count: int) -> Array:
    """[count] int32, positions of the highest scores [u], the highest first."""
    return jax.lax.top_k(score, count)[1]


def rows_of(chosen: Array, part: int) -> Array:
    """[m part] positions, in a pool that lies unit by unit, of the units [m]."""
    return (chosen[:, None] * part + jnp.arange(part)[None, :]).reshape(-1)
