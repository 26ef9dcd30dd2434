"""Which stored codes lie nearest to codes that a search has found."""

import jax
import jax.numpy as jnp

from ocssl_jax.core import Array


def nearest(
    found: Array,
    wanted: Array,
    stored: Array,
    real: Array,
    *,
    count: int,
    distinct: bool,
) -> tuple[Array, Array]:
    """The nearest stored codes of each in turn, over and over until there are enough.

    Args:
      found: [b z] what is looked for.
      wanted: [b] bool, rows of it that count; the turn of others gives nothing.
      stored: [c z] what there is.
      real: [c] bool, rows of it that count.
      count: r, how many are taken.
      distinct: none is taken twice; else each turn of a code gives the same.

    Returns:
      [r] int32 positions in `stored`, and [r] bool, which of them are something.
    """
    gap = jnp.sum(jnp.square(found[:, None] - stored[None]), axis=2)  # [b c]
    gap = jnp.where(wanted[:, None] & real[None], gap, jnp.inf)

    def take(gap: Array, turn: Array) -> tuple[Array, tuple[Array, Array]]:
        place = jnp.argmin(gap[turn])
        taken = gap.at[:, place].set(jnp.inf) if distinct else gap
        some = jnp.isfinite(gap[turn, place])
        return jnp.where(some, taken, gap), (place.astype(jnp.int32), some)

    return jax.lax.scan(take, gap, jnp.arange(count) % len(found))[1]
