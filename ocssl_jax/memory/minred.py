"""MinRed (Purushwalkam et al. 2022): keeps what is least redundant.

A FIFO whose eviction is another one: each newcomer that finds the memory full takes the
place of the stored item whose nearest neighbour is closest. Of the closest pair the
older item goes. Newcomers are no candidates before the next batch.
"""

import jax
import jax.numpy as jnp

from ocssl_jax.core import Array, Memory
from ocssl_jax.losses import unit
from ocssl_jax.memory.base import Ranked
from ocssl_jax.memory.fifo import EMPTY, fifo, without


def redundant(state: Ranked, surplus: Array) -> Array:
    """[N] bool: the `surplus` [] most redundant rows, chosen one after the other.

    The similarities are computed once; each choice leaves the rest to be judged anew.
    """
    capacity, rank = len(state.rank), state.rank
    u = unit(state.feature)
    similarity = jnp.matmul(u, u.T, precision="highest")
    # A pair is the older item's alone: the two readings of its similarity may differ in
    # the last bit, and which of them goes must not hang on that.
    pair = (rank > EMPTY)[:, None] & (rank[:, None] < rank[None, :])
    similarity = jnp.where(pair, similarity, -jnp.inf)

    def evict(_: Array, gone: Array) -> Array:
        nearest = jnp.max(jnp.where(gone[None, :], -jnp.inf, similarity), axis=1)
        held = (rank > EMPTY) & ~gone
        nearest = jnp.where(held, jnp.maximum(nearest, -2.0), -jnp.inf)
        closest = nearest == jnp.max(nearest)
        eldest = jnp.argmin(jnp.where(closest, rank, jnp.iinfo(rank.dtype).max))
        return gone.at[eldest].set(True)

    return jax.lax.fori_loop(0, surplus, evict, jnp.zeros(capacity, bool))


def minred(capacity: int, *, feature_decay: float) -> Memory:
    """The `capacity` least redundant items, by cosine distance; see `base.ranked`."""
    kept = fifo(capacity, feature_decay=feature_decay)

    def add(key, state, items, feature, mask, *, embed):
        held = kept.size(state)
        surplus = jnp.clip(held + jnp.sum(mask) - capacity, 0, held)
        room = without(state, redundant(state, surplus))
        return kept.add(key, room, items, feature, mask, embed=embed)

    return kept._replace(add=add)
