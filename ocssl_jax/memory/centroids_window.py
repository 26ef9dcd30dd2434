"""The sliding window of nearest-centroid distances and its percentile, CLIMB's tau."""

import jax.numpy as jnp
from flax import struct

from ocssl_jax.core import Array


@struct.dataclass
class Window:
    """Ring of the last w distances."""

    value: Array  # [w] float32, NaN where nothing was pushed yet
    next: Array  # [] int32, where the next distance goes
    size: Array  # [] int32, distances held
    threshold: Array  # [] float32, tau


def empty_window(width: int) -> Window:
    """No distance yet: nothing exceeds the threshold."""
    return Window(
        value=jnp.full(width, jnp.nan, jnp.float32),
        next=jnp.zeros((), jnp.int32),
        size=jnp.zeros((), jnp.int32),
        threshold=jnp.full((), jnp.inf, jnp.float32),
    )


def percentile_of(value: Array, size: Array, percentile: float) -> Array:
    """Linear-interpolated quantile [] of the `size` real entries of `value` [w].

    NumPy's rule 'linear', except that NaNs sort behind every number instead of
    spreading: the quantile is NaN only where it falls among them. Infinite when empty.
    """
    ordered = jnp.sort(value)
    position = percentile * jnp.maximum(size - 1, 0).astype(jnp.float32)
    low = jnp.floor(position).astype(jnp.int32)
    part = position - low.astype(jnp.float32)
    step = ordered[jnp.minimum(low + 1, value.shape[0] - 1)] - ordered[low]
    quantile = ordered[low] + jnp.where(part > 0, part * step, 0.0)
    return jnp.where(size > 0, quantile, jnp.inf)


def push(
    window: Window, distance: Array, wanted: Array, *, repeats: int, percentile: float
) -> Window:
    """Pushes `distance` [] `repeats` times if `wanted` [] and moves the threshold."""
    width = window.value.shape[0]
    position = (window.next + jnp.arange(repeats)) % width
    position = jnp.where(wanted, position, width)
    value = window.value.at[position].set(distance, mode="drop")
    pushed = jnp.where(wanted, repeats, 0)
    size = jnp.minimum(window.size + pushed, width)
    return Window(
        value=value,
        next=(window.next + pushed) % width,
        size=size,
        threshold=percentile_of(value, size, percentile),
    )
