"""Memories that keep the items of highest rank; the rank is the whole policy.

Reservoir sampling is "every item draws a rank, the best `capacity` stay" (Efraimidis
and Spirakis 2006); a FIFO is the same sentence with the order of arrival as the rank.
One `add` serves both: the strongest newcomers meet the weakest stored items, in place,
so no image is ever moved and a batch costs two argsorts of numbers.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import struct

from ocssl_jax.core import Array, Items, Key, Memory, Sample
from ocssl_jax.traced import holds

Among = Callable[[Items], Array]  # of all slots' items, [N] bool: which may be drawn


class Rank(NamedTuple):
    """A policy: what an item is worth.

    `arrive(key, rank [N], mask [b]) -> (rank [N], new [b])` says what the stored items
    are worth now that the rows of `mask` have come, and what the newcomers are worth.
    `empty`, below every rank, marks slots that hold nothing and rows that do not count.
    """

    empty: float | int
    arrive: Callable[[Key, Array, Array], tuple[Array, Array]]


@struct.dataclass
class Ranked:
    """State of a ranked memory of N slots."""

    items: Items  # [N ...]
    feature: Array  # [N d] float32
    rank: Array  # [N], `Rank.empty` where the slot is free


def ranked(capacity: int, *, rank: Rank, feature_decay: float) -> Memory:
    """A memory of the `capacity` items of highest rank.

    Args:
      capacity: N, the number of slots, at least 1.
      rank: the policy.
      feature_decay: alpha of `refresh`, f <- alpha f + (1 - alpha) f_new, in [0, 1].

    Raises:
      ValueError: a setting is outside its range, or `sample` is asked for more rows
        than there are slots.
    """
    if capacity < 1:
        raise ValueError(f"a memory's capacity must be at least 1, not {capacity}")
    if not (holds(feature_decay >= 0) and holds(feature_decay <= 1)):
        raise ValueError(f"feature_decay must lie in [0, 1], not {feature_decay}")

    def init(item: Items, feature: Array) -> Ranked:
        rows = lambda x: jnp.zeros((capacity, *jnp.shape(x)), jnp.asarray(x).dtype)
        return Ranked(
            items=jax.tree.map(rows, item),
            feature=rows(feature).astype(jnp.float32),
            rank=jnp.full((capacity,), rank.empty, jnp.result_type(rank.empty)),
        )

    def held(state: Ranked) -> Array:
        return state.rank > rank.empty

    def add(key, state, items, feature, mask, *, embed):
        del embed  # nothing here is ever encoded again
        chex.assert_equal_shape_prefix([*items.values(), feature, mask], 1)
        stored, new = rank.arrive(key, state.rank, mask)
        k = min(capacity, mask.shape[0])
        best = jnp.argsort(new, descending=True)[:k]
        weak = jnp.argsort(stored)[:k]
        slot = jnp.where(new[best] > stored[weak], weak, capacity)
        put = lambda old, x: old.at[slot].set(x[best].astype(old.dtype), mode="drop")
        return Ranked(
            items=jax.tree.map(put, state.items, items),
            feature=put(state.feature, feature),
            rank=put(stored, new),
        )

    def sample(
        key: Key, state: Ranked, n: int, *, among: Among | None = None
    ) -> Sample:
        if n > capacity:
            raise ValueError(f"cannot draw {n} rows from a memory of {capacity} slots")
        may = held(state) if among is None else held(state) & among(state.items)
        score = jnp.where(may, jax.random.uniform(key, (capacity,)), -1.0)
        slot = jax.lax.top_k(score, n)[1]
        items = jax.tree.map(lambda x: x[slot], state.items)
        return Sample(items, state.feature[slot], slot, may[slot])

    def refresh(state: Ranked, slot: Array, feature: Array, mask: Array) -> Ranked:
        chex.assert_equal_shape_prefix([slot, feature, mask], 1)
        new = feature.astype(jnp.float32)
        mixed = feature_decay * state.feature[slot] + (1 - feature_decay) * new
        where = jnp.where(mask, slot, capacity)
        return replace(state, feature=state.feature.at[where].set(mixed, mode="drop"))

    def size(state: Ranked) -> Array:
        return jnp.sum(held(state), dtype=jnp.int32)

    def rows(state: Ranked) -> tuple[Items, Array]:
        return state.items, held(state)

    def metrics(state: Ranked) -> dict[str, Array]:
        return {"memory_images": size(state)}

    return Memory(init, add, sample, refresh, size, rows, metrics)
