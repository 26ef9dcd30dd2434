"""The sliding window of nearest-centroid distances and its percentile, CLIMB's tau."""

from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct

from ocssl_jax.core import Array


@struct.dataclass
class Window:
    """Ring of the last w distances; infinite where nothing, or NaN, was pushed."""

    value: Array  # [w] float32, in the order of arrival
    ordered: Array  # [w] float32, the same in ascending order
    next: Array  # [] int32, where the next distance goes
    size: Array  # [] int32, distances held
    threshold: Array  # [] float32, tau


def empty_window(width: int) -> Window:
    """No distance yet: nothing exceeds the threshold."""
    return Window(
        value=jnp.full(width, jnp.inf, jnp.float32),
        ordered=jnp.full(width, jnp.inf, jnp.float32),
        next=jnp.zeros((), jnp.int32),
        size=jnp.zeros((), jnp.int32),
        threshold=jnp.full((), jnp.inf, jnp.float32),
    )


def percentile_of(ordered: Array, size: Array, percentile: float) -> Array:
    """Linear-interpolated quantile [] of the first `size` entries of `ordered` [w].

    NumPy's rule 'linear', except that NaNs, which are infinities here, sort behind
    every number instead of spreading: the quantile is NaN only where it falls among
    them. Infinite when empty.
    """
    position = percentile * jnp.maximum(size - 1, 0).astype(jnp.float32)
    low = jnp.floor(position).astype(jnp.int32)
    part = position - low.astype(jnp.float32)
    step = ordered[jnp.minimum(low + 1, ordered.shape[0] - 1)] - ordered[low]
    quantile = ordered[low] + jnp.where(part > 0, part * step, 0.0)
    quantile = jnp.where(jnp.isfinite(quantile), quantile, jnp.nan)
    return jnp.where(size > 0, quantile, jnp.inf)


def exchanged(ordered: Array, old: Array, new: Array) -> Array:
    """`ordered` [w] with `new` [] for one entry `old` [], in order again.

    What lies between the two places shifts by one: sorting anew costs 40 times as much.
    """
    place = jnp.arange(ordered.shape[0])
    out, into = jnp.sum(ordered < old), jnp.sum(ordered < new)
    into = jnp.where(into > out, into - 1, into)  # the place once `old` is gone
    left = (place >= out) & (place < into)
    right = (place > into) & (place <= out)
    shifted = jnp.where(left, jnp.roll(ordered, -1), ordered)
    shifted = jnp.where(right, jnp.roll(ordered, 1), shifted)
    return jnp.where(place == into, new, shifted)


def pushed(window: Window, distance: Array) -> Window:
    """The window with one more distance; the threshold is as before."""
    width = window.value.shape[0]
    distance = jnp.where(jnp.isnan(distance), jnp.inf, distance)
    return replace(
        window,
        value=window.value.at[window.next].set(distance),
        ordered=exchanged(window.ordered, window.value[window.next], distance),
        next=(window.next + 1) % width,
        size=jnp.minimum(window.size + 1, width),
    )


def push(
    window: Window, distance: Array, wanted: Array, *, repeats: int, percentile: float
) -> Window:
    """Pushes `distance` [] `repeats` times if `wanted` [] and moves the threshold."""
    after = window
    for _ in range(repeats):
        after = pushed(after, distance)
    tau = percentile_of(after.ordered, after.size, percentile)
    after = replace(after, threshold=tau)
    return jax.tree.map(lambda new, old: jnp.where(wanted, new, old), after, window)
