"""First in, first out: the memory holds the newest N items of the stream.

The rank is the order of arrival, kept relative to the newest item (0, -1, -2, ...)
instead of as a running number: what is stored never exceeds N, however long the stream.
"""

from dataclasses import replace

import jax.numpy as jnp

from ocssl_jax.core import Array, Key, Memory
from ocssl_jax.memory.base import Rank, Ranked, ranked

EMPTY = int(jnp.iinfo(jnp.int32).min)


def arrival_rank(key: Key, rank: Array, mask: Array) -> tuple[Array, Array]:
    """Stored ranks [N] fall by the number of arrivals; the last newcomer gets 0."""
    del key  # nothing is drawn
    real = mask.astype(jnp.int32)
    later = jnp.cumsum(real[::-1])[::-1] - real  # real rows that come after a row
    stored = jnp.where(rank > EMPTY, rank - jnp.sum(real), EMPTY)
    return stored, jnp.where(mask, -later, EMPTY)


def fifo(capacity: int, *, feature_decay: float) -> Memory:
    """The newest `capacity` items; see `base.ranked`."""
    rank = Rank(empty=EMPTY, arrive=arrival_rank)
    return ranked(capacity, rank=rank, feature_decay=feature_decay)


def without(state: Ranked, gone: Array) -> Ranked:
    """A FIFO's state without the rows of `gone` [N]; the rest close ranks.

    Memories that make room by a rule of their own are a FIFO that is never full.
    """
    rank = jnp.where(gone, EMPTY, state.rank)
    place = jnp.argsort(jnp.argsort(rank)).astype(rank.dtype)  # free slots come first
    newest = rank.shape[0] - 1
    return replace(state, rank=jnp.where(rank > EMPTY, place - newest, EMPTY))
