"""CLIMB's consolidation: what happens when the image budget N is reached.

The loop over chunks of images runs zero times while the budget is not reached. That is
a `cond` that survives `vmap`: a batch of seeds pays only when a seed consolidates.
"""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp

from ocssl_jax.core import Array, Embed
from ocssl_jax.memory.centroids_state import Centroids, Settings, Table, plus, size

CHUNK = 128  # images encoded at a time


def re_encode(settings: Settings, state: Centroids, embed: Embed, due: Array) -> Array:
    """Each centroid's mean [C d] over its images, by the current encoder.

    Only real images are encoded: their entries are packed first. Zero if not `due`.
    """
    table, (c, m) = state.table, state.table.place.shape
    # Below N before the batch, and an image adds itself and at most one anchor.
    most = min(settings.budget + 2 * settings.batch_size, c * m)
    chunk = min(CHUNK, most)
    length = -(-most // chunk) * chunk
    entry = jnp.nonzero(table.entries.reshape(-1), size=length, fill_value=c * m)[0]
    place = table.place.reshape(-1).at[entry].get(mode="clip")
    row = entry // m  # padding belongs to row C, which is nobody

    def encode(i: Array, total: Array) -> Array:
        take = lambda x: jax.lax.dynamic_slice_in_dim(x, i * chunk, chunk)
        images = state.items["image"][take(place)]
        member = (jnp.arange(c)[:, None] == take(row)[None, :]).astype(jnp.float32)
        z = embed(images).astype(jnp.float32)
        return total + jnp.matmul(member, z, precision="highest")

    chunks = jnp.where(due, -(-size(state) // chunk), 0)
    total = jax.lax.fori_loop(0, chunks, encode, jnp.zeros_like(table.embedding))
    return total / jnp.maximum(table.count, 1)[:, None].astype(jnp.float32)


def _reset_matches(table: Table) -> Array:
    return table.matches.at[: table.stm].set(0)


def _consolidate(settings, state, embed, due) -> Table:
    table = state.table
    stm = table.stm
    return replace(
        table,
        embedding=re_encode(settings, state, embed, due),
        count=table.count.at[:stm].set(jnp.minimum(table.count[:stm], 1)),
        matches=_reset_matches(table),
    )


def _reset_stm(settings, state, embed, due) -> Table:
    table = _consolidate(settings, state, embed, due)
    empty = jnp.zeros_like(table.age)
    return replace(table, count=table.count.at[: table.stm].set(empty), age=empty)


def _trim(settings, state, embed, due) -> Table:
    del embed, due  # nothing is encoded
    table, stm = state.table, state.table.stm
    spare = jnp.maximum(table.count[:stm] - 1, 0)  # an anchor keeps its first image
    eldest = jnp.argsort(table.age, descending=True)
    before = jnp.cumsum(spare[eldest]) - spare[eldest]
    excess = size(state) - settings.budget
    dropped = jnp.clip(excess - before, 0, spare[eldest])
    count = table.count.at[:stm].set(table.count[:stm].at[eldest].add(-dropped))
    return replace(table, count=count)


CONSOLIDATION: dict[str, Callable[..., Table]] = {
    "consolidate": _consolidate,
    "reset_stm": _reset_stm,
    "trim": _trim,
}


def consolidate(
    settings: Settings, state: Centroids, embed: Embed, arrived: Array
) -> Centroids:
    """Applies the chosen consolidation if STM + LTM hold N images or more.

    `arrived` [] says whether the batch had a real row; a batch of padding does nothing.
    """
    due = arrived & (size(state) >= settings.budget)
    after = CONSOLIDATION[settings.consolidation](settings, state, embed, due)
    choose = lambda new, old: jnp.where(due, new, old)
    return replace(
        state,
        table=jax.tree.map(choose, after, state.table),
        cycle=plus(state.cycle, due.astype(state.cycle.dtype)),
    )
