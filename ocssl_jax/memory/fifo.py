"""First in, first out: the memory holds the newest N items of the stream.

The rank is the order of arrival, kept relative to the newest item (0, -1, -2, ...)
instead of as a running number: what is stored never exceeds N, however long the stream.
"""

import jax.numpy as jnp

from ocssl_jax.core import Array, Key, Memory
from ocssl_jax.memory.base import Rank, ranked

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
