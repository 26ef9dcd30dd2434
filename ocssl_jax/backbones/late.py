"""What a gradient computes from values of the way forward, computed when it is due.

XLA moves such work to where its operands are made, and drops optimization barriers
before it does, at least on a CPU: a train step then keeps transposed, padded and
normalised copies of each layer's images beside the images, half as much memory again.
"""

from ocssl_jax.core import Array


def late(x: Array, dy: Array) -> Array:
    """`x` unchanged, but not before `dy`, any float array, is there.

    0 * dy is not 0 to XLA, for `dy` might be NaN; the result is NaN then.
    """
    return x + 0 * dy.reshape(-1)[0].astype(x.dtype)
