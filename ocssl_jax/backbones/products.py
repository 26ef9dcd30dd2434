"""Convolutions as matrix products, on CPUs over blocks of images.

The windows of an image side by side make a convolution one matrix product; but those of
a whole batch are nine copies of it in main memory, which take longer to read back than
to multiply. So a loop goes over blocks of images whose windows stay in the cache
(docs/performance.md has what that brings). Products are summed in float32, whatever the
images are: a CPU gains from bfloat16 only in products of that kind.
"""

from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ocssl_jax.core import Array

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]  # ((top, bottom), (left, right)) in pixels; negative ones crop

BLOCK = 2_400_000  # bytes that the windows of a block may take


def correlate(x: Array, kernel: Array, strides: Pair, pads: Pads) -> Array:
    """Images [n h w i] correlated with a kernel [kh kw i o] -> float32 [n h' w' o]."""
    look = Look((kernel.shape[0], kernel.shape[1]), strides, pads)
    matrix = kernel.reshape(-1, kernel.shape[3])

    def one(image: Array) -> Array:
        found = lax.optimization_barrier(windows(image[None], look)[0])
        return jnp.matmul(found, matrix, preferred_element_type=jnp.float32)

    return lax.map(one, x, batch_size=block(x, look))


def kernel_gradient(
    dy: Array, x: Array, size: Pair, strides: Pair, pads: Pads
) -> Array:
    """That of the kernel, float32 [kh kw i o], for `dy` [n h' w' o] of the result."""
    look, (i, o) = Look(size, strides, pads), (x.shape[3], dy.shape[3])
    step = block(x, look)
    loops = len(x) // step

    def of_block(images: Array, steps: Array) -> Array:
        """[taps o]; the windows are turned over first, which products want."""
        found = windows(images, look).reshape(-1, prod(size) * i)
        turned = lax.optimization_barrier(found.T)
        return jnp.matmul(
            turned, steps.reshape(-1, o), preferred_element_type=jnp.float32
        )

    def add(k: Array, total: Array) -> Array:
        of = lambda a: lax.dynamic_slice_in_dim(a, k * step, step)
        return total + of_block(of(x), of(dy))

    rest = of_block(x[loops * step :], dy[loops * step :])  # zero where none is left
    return lax.fori_loop(0, loops, add, rest).reshape(*size, i, o)


class Look(NamedTuple):
    """How a kernel looks at an image."""

    size: Pair
    strides: Pair
    pads: Pads


def padded(x: Array, pads: Pads) -> Array:
    """Zeros around, or borders off."""
    edges = [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), edges)


def windows(x: Array, look: Look) -> Array:
    """What the kernel sees at each place: [n h w i] -> [n h' w' kh*kw*i].

    Images are padded here, block by block: a padded copy of all of them would be made
    early and kept.
    """
    (rows, columns), (down, right) = places(x, look), look.strides
    x = padded(x, look.pads)
    return jnp.concatenate(
        [
            x[
                :,
                a : a + down * (rows - 1) + 1 : down,
                b : b + right * (columns - 1) + 1 : right,
            ]
            for a in range(look.size[0])
            for b in range(look.size[1])
        ],
        axis=-1,
    )


def places(x: Array, look: Look) -> Pair:
    """Rows and columns of the result."""
    along = zip(x.shape[1:3], *look, strict=True)
    rows, columns = (
        (side + sum(pads) - size) // stride + 1 for side, size, stride, pads in along
    )
    return rows, columns


def block(x: Array, look: Look) -> int:
    """Images whose windows together take `BLOCK` bytes, at least one, at most all.

    On an accelerator all of them: it would have to wait for each step of a loop.
    """
    if jax.default_backend() != "cpu":
        return len(x)
    each = prod(places(x, look)) * prod(look.size) * x.shape[3] * x.dtype.itemsize
    return min(max(BLOCK // each, 1), len(x))
