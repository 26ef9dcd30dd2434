"""What a gradient computes from values of the way forward, computed when it is due.

XLA's CPU compiler moves such work to where its operands are made, and drops
optimization barriers before it does: a train step then keeps transposed, padded and
normalised copies of each layer's images beside the images, half as much memory again.
"""

from jax import lax

from ocssl_jax.core import Array


def late(x: Array, after: Array) -> Array:
    """`x` unchanged; on a CPU not before `after`, any float array, is there.

    `after` is best what a convolution or a sum has made. Of anything else the compiler
    computes the first element again in each loop that reads `x`, with all that leads
    to it.

    0 * after is not 0 to XLA, for `after` might be NaN; the result is NaN then.
    Elsewhere nothing is added: one value of a sharded array would have to go to all
    devices.
    """
    return lax.platform_dependent(x, after, cpu=_after, default=lambda x, after: x)


def _after(x: Array, after: Array) -> Array:
    return x + 0 * after.reshape(-1)[0].astype(x.dtype)
