"""What a gradient computes from values of the way forward, computed when it is due.

XLA's CPU compiler moves such work to where its operands are made, and drops
optimization barriers before it does: a train step then keeps transposed, padded and
normalised copies of each layer's images beside the images, half as much memory again.
"""

from jax import lax

from ocssl_jax.core import Array


def late(x: Array, dy: Array) -> Array:
    """`x` unchanged; on a CPU not before `dy`, any float array, is there.

    0 * dy is not 0 to XLA, for `dy` might be NaN; the result is NaN then. Elsewhere
    nothing is added: one value of a sharded `dy` would have to go to all devices.
    """
    return lax.platform_dependent(x, dy, cpu=_after, default=lambda x, dy: x)


def _after(x: Array, dy: Array) -> Array:
    return x + 0 * dy.reshape(-1)[0].astype(x.dtype)
