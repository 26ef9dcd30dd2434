"""What changes CLIMB's long-term memory: replacement, promotion, merge.

All rules move places (integers) only; see `centroids_state`. Random choices take
uniforms as arguments, so that a test can make the same choices.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ocssl_jax.core import Array, Key
from ocssl_jax.losses import unit
from ocssl_jax.memory.centroids_state import PROMOTED, Table, plus


class Draws(NamedTuple):
    """The uniforms one stream image may need, drawn whether needed or not."""

    accept: Array  # [] decides whether a full LTM row takes the image
    slot: Array  # [M] of the slots that may be overwritten, the largest is
    merge: Array  # [2M] of two pooled rows, the smallest are kept


def draw(key: Key, images_per_centroid: int) -> Draws:
    """Uniforms on [0, 1) for one stream image."""
    m = images_per_centroid
    u = jax.random.uniform(key, (1 + 3 * m,))
    return Draws(u[0], u[1 : 1 + m], u[1 + m :])


class Full(NamedTuple):
    """A full LTM row that a stream image has matched."""

    draws: Draws
    matches: Array  # [] int32, this one included
    arrival: Array  # [M] int32, cycles in which the row's images were stored
    likeness: Callable[[], Array]  # () -> [M] cosine of each image with the newcomer


def _any_slot(full: Full) -> Array:
    return jnp.argmax(full.draws.slot)


def _oldest_slot(full: Full) -> Array:
    return jnp.argmin(full.arrival)


def _likest_slot(full: Full) -> Array:
    return jnp.argmax(full.likeness())


def _commonest_cycle_slot(full: Full) -> Array:
    same = full.arrival[:, None] == full.arrival[None, :]
    peers = jnp.sum(same, axis=1)
    return jnp.argmax(jnp.where(peers == jnp.max(peers), full.draws.slot, -1.0))


def _always(full: Full) -> Array:
    del full
    return jnp.float32(1.0)


def _half(full: Full) -> Array:
    del full
    return jnp.float32(0.5)


def _reservoir(full: Full) -> Array:
    images = jnp.float32(full.arrival.shape[0])
    return images / full.matches.astype(jnp.float32)


def _never(full: Full) -> Array:
    del full
    return jnp.float32(0.0)


# name -> (probability that a full row takes the image, which slot it overwrites)
LTM_REPLACE: dict[str, tuple[Callable[[Full], Array], Callable[[Full], Array]]] = {
    "random": (_half, _any_slot),
    "oldest": (_always, _oldest_slot),
    "similar": (_always, _likest_slot),
    "balanced_time": (_always, _commonest_cycle_slot),
    "reservoir": (_reservoir, _any_slot),
    "reservoir_oldest": (_reservoir, _oldest_slot),
    "reservoir_similar": (_reservoir, _likest_slot),
    "reservoir_balanced_time": (_reservoir, _commonest_cycle_slot),
    "none": (_never, _any_slot),
}


def overwritten(rule: str, full: Full) -> Array:
    """The slot [] in 0..M-1 that the newcomer takes, or M where it is refused."""
    probability, slot = LTM_REPLACE[rule]
    images = full.arrival.shape[0]
    return jnp.where(full.draws.accept < probability(full), slot(full), images)


def promote(table: Table, row: Array) -> tuple[Table, Array]:
    """Copies what STM row `row` [] holds to a free LTM row once it has M matches.

    The STM row stays as an anchor with its first image. Any other `row` is a no-op.

    Returns:
      The table, positions as they were; and the LTM row [] written or C.
    """
    (free_row, images), stm = table.place.shape, table.stm
    due = (row < stm) & (table.matches[row] >= images)
    source = jnp.where(due, row, free_row)
    target = jnp.where(due, stm + jnp.argmin(table.count[stm:] > 0), free_row)
    copy = lambda x: x.at[target].set(x[row], mode="drop")
    matches = table.matches.at[target].set(0, mode="drop")
    after = replace(
        table,
        place=copy(table.place),
        count=copy(table.count).at[source].set(1, mode="drop"),
        matches=matches.at[source].set(PROMOTED, mode="drop"),
    )
    return after, target


def most_similar(embedding: Array) -> Array:
    """Indices [2] (i < j) of the two rows of `embedding` [k d] of highest cosine."""
    u = unit(embedding)
    similarity = jnp.matmul(u, u.T, precision="highest")
    above = jnp.triu(jnp.ones_like(similarity, dtype=bool), k=1)
    best = jnp.argmax(jnp.where(above, similarity, -jnp.inf))
    return jnp.stack(jnp.divmod(best, embedding.shape[0])).astype(jnp.int32)


def _random_order(uniform: Array) -> Array:
    return uniform.reshape(-1)


def _balanced_order(uniform: Array) -> Array:
    place = jnp.argsort(jnp.argsort(uniform, axis=1), axis=1)  # rank within each row
    return (2 * place + jnp.arange(2)[:, None]).reshape(-1).astype(jnp.float32)


# name -> (uniforms [2 M], 2 where there is no image) -> [2M], the smallest are kept
MERGE_SELECT: dict[str, Callable[[Array], Array]] = {
    "random": _random_order,
    "balanced": _balanced_order,
}


class Merged(NamedTuple):
    """Two LTM rows as one."""

    pair: Array  # [2] int32, the row that it takes and the row that it frees
    embedding: Array  # [d]
    place: Array  # [M] int32
    images: Array  # [] int32
    matches: Array  # [] int32


def two_as_one(table: Table, uniform: Array, *, select: str) -> Merged:
    """The two most similar LTM rows; `uniform` [2M] decides which images are kept."""
    m, stm = table.place.shape[1], table.stm
    pair = stm + most_similar(table.embedding[stm:])
    held = table.entries[pair]  # [2 M]
    order = MERGE_SELECT[select](jnp.where(held, uniform.reshape(2, m), 2.0))
    kept = jnp.argsort(jnp.where(held.reshape(-1), order, jnp.inf))[:m]
    keep = jnp.zeros(2 * m, bool).at[kept].set(True) & held.reshape(-1)
    packed = jnp.argsort(~keep)[:m]  # the kept ones in the order of the pool
    return Merged(
        pair,
        embedding=jnp.mean(table.embedding[pair], axis=0),
        place=table.place[pair].reshape(-1)[packed],
        images=jnp.minimum(jnp.sum(table.count[pair]), m),
        matches=plus(*table.matches[pair]),
    )


def merge(
    table: Table, moved: Array, position: Array, uniform: Array, *, select: str
) -> tuple[Table, Array, Array]:
    """Merges the two most similar LTM rows if none is free.

    Args:
      table: the centroids.
      moved: [2] rows that the image has moved, not written yet; C for none.
      position: [d], where they are now.
      uniform: [2M] random choices.
      select: which of the pooled images are kept, a name of `MERGE_SELECT`.

    Returns:
      The table, positions as they were; the rows [3] that have moved by now, and where
      to [3 d]. A later one counts if two are the same.
    """
    nobody = jnp.full(2, len(table.count), jnp.int32)

    def merged() -> tuple[Array, Merged]:
        at = table.embedding.at[moved].set(position, mode="drop")
        one = two_as_one(replace(table, embedding=at), uniform, select=select)
        return jnp.stack([position, position, one.embedding]), one

    def nothing() -> tuple[Array, Merged]:
        zeros = lambda x: jnp.zeros(x.shape, x.dtype)
        rows, one = jax.tree.map(zeros, jax.eval_shape(merged))
        return rows.at[:2].set(position), one._replace(pair=nobody)

    # Rarely due. Only rows leave the branch: a table would be copied.
    rows, one = jax.lax.cond(jnp.all(table.count[table.stm :] > 0), merged, nothing)
    i, j = one.pair
    put = lambda x, row, value: x.at[row].set(value, mode="drop")
    after = replace(
        table,
        place=put(table.place, i, one.place),
        count=put(put(table.count, i, one.images), j, 0),
        matches=put(put(table.matches, i, one.matches), j, 0),
    )
    return after, jnp.append(moved, i), rows
