"""Reservoir sampling (Vitter 1985): at any time a uniform sample of the stream so far.

Every item draws the rank -E, E ~ Exp(1), when it arrives and the N highest ranks stay:
any N of the items seen are equally likely to be the memory, whatever the batches were.
"""

import jax
import jax.numpy as jnp

from ocssl_jax.core import Array, Key, Memory
from ocssl_jax.memory.base import Rank, ranked

STEP = 2.0**-23  # the grid of float32 uniforms
BELOW_ONE = 1.0 - 2.0**-24  # keeps the logarithm finite


def exponential(key: Key, shape: tuple[int, ...]) -> Array:
    """Exp(1) variates, float32, that stay distinct close to 0.

    Uniforms of one draw are multiples of 2^-23, so the survivors of about ten million
    items would tie. A second draw fills the gaps of the grid, down to 2^-46.
    """
    coarse, fine = jax.random.uniform(key, (2, *shape))
    u = jnp.minimum(coarse + STEP * fine, BELOW_ONE)
    return -jnp.log1p(-u)


def draw_rank(key: Key, rank: Array, mask: Array) -> tuple[Array, Array]:
    """Stored ranks [N] stay; real newcomers [b] draw theirs."""
    return rank, jnp.where(mask, -exponential(key, mask.shape), -jnp.inf)


def reservoir(capacity: int, *, feature_decay: float) -> Memory:
    """A uniform sample without replacement of everything seen; see `base.ranked`."""
    rank = Rank(empty=-float("inf"), arrive=draw_rank)
    return ranked(capacity, rank=rank, feature_decay=feature_decay)
