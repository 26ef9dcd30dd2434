"""2-D convolution whose gradients stay fast inside loops on a CPU.

XLA's CPU backend only uses its fast convolution kernel for the layout NHWC x HWIO ->
NHWC. The gradients that autodiff derives permute the dimension numbers instead of the
arrays; outside a loop the compiler inserts the transposes itself, but inside the body
of `lax.scan`, `lax.map` or `lax.cond` it does not, and a train step becomes more than
ten times slower (jax-ml/jax#12868). Here both gradients are written as convolutions
of that one layout. `optimization_barrier` keeps the compiler from folding the
transposes back into the dimension numbers. Matrix products (products.py) take their
place where they are faster: for the kernel's gradient over many images, and for all
three in bfloat16, which the fast kernel does not know. Other backends keep plain
autodiff. `form` is where all this is decided.
"""

from collections.abc import Callable, Sequence
from functools import partial

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.typing import DTypeLike

from ocssl_jax.backbones import products
from ocssl_jax.backbones.late import late
from ocssl_jax.backbones.linear import uniform_fan_in
from ocssl_jax.backbones.products import Pads, Pair
from ocssl_jax.core import Array

LAYOUT = ("NHWC", "HWIO", "NHWC")
LARGE = 8_000_000  # bytes of images whose transposed copies leave the cache
RAW = 3  # channels that images of a data set have at most


def form(dtype: DTypeLike) -> str:
    """Of `FORMS`, the one that this platform runs best; asked at trace time.

    With 'products' seeds that are vmapped make batched matrix products, with the others
    grouped convolutions; `python -m benchmarks.seeds` measures both. Until that has
    been done on an accelerator these keep what their libraries are made for, and seeds
    take turns there (`vmap` of learning.py).
    """
    if jax.default_backend() != "cpu":
        return "plain"
    return "products" if dtype == jnp.bfloat16 else "explicit"


def conv(
    x: Array, kernel: Array, *, strides: Pair, padding: str | Sequence[Pair]
) -> Array:
    """Cross-correlation of images with a kernel, as neural networks mean it.

    Args:
      x: [n h w i] images.
      kernel: [kh kw i o] of the same dtype.
      strides: steps down and right.
      padding: 'SAME', 'VALID' or ((top, bottom), (left, right)) in pixels, all >= 0.

    Returns:
      [n h' w' o] in the dtype of `x`.
    """
    chex.assert_rank([x, kernel], 4)
    chex.assert_equal(x.shape[3], kernel.shape[2])
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    (top, bottom), (left, right) = padding
    pads = ((int(top), int(bottom)), (int(left), int(right)))
    return FORMS[form(x.dtype)](x, kernel, (strides[0], strides[1]), pads)


def _conv_plain(x: Array, kernel: Array, strides: Pair, pads: Pads) -> Array:
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=LAYOUT)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv_explicit(x: Array, kernel: Array, strides: Pair, pads: Pads) -> Array:
    return _conv_plain(x, kernel, strides, pads)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv_products(x: Array, kernel: Array, strides: Pair, pads: Pads) -> Array:
    return products.correlate(x, kernel, strides, pads).astype(x.dtype)


def _explicit_forward(x, kernel, strides, pads):
    return _conv_explicit(x, kernel, strides, pads), (x, kernel)


def _products_forward(x, kernel, strides, pads):
    return _conv_products(x, kernel, strides, pads), (x, kernel)


def _explicit_backward(strides, pads, residuals, dy):
    x, kernel = residuals
    turned, reach = _back(dy, x, kernel, strides, pads)
    dx = lax.conv_general_dilated(
        dy,
        lax.optimization_barrier(turned),
        (1, 1),
        reach,
        lhs_dilation=strides,
        dimension_numbers=LAYOUT,
    )
    size = kernel.shape[:2]
    if x.nbytes >= LARGE:
        return dx, products.kernel_gradient(dy, x, size, strides, pads)
    # Nobody asks for the gradient of raw images, and a copy of them takes little.
    images = x if x.shape[3] <= RAW else late(x, dx)
    return dx, _kernel_gradient(dy, images, size, strides, pads)


def _products_backward(strides, pads, residuals, dy):
    x, kernel = residuals
    turned, reach = _back(dy, x, kernel, strides, pads)
    edges = [(0, 0, 0), *((0, 0, s - 1) for s in strides), (0, 0, 0)]
    spread = lax.pad(dy, jnp.zeros((), dy.dtype), edges)
    dx = products.correlate(spread, turned, (1, 1), reach)
    dkernel = products.kernel_gradient(dy, x, kernel.shape[:2], strides, pads)
    return dx.astype(x.dtype), dkernel.astype(kernel.dtype)


_conv_explicit.defvjp(_explicit_forward, _explicit_backward)
_conv_products.defvjp(_products_forward, _products_backward)

# name -> function of images, kernel, strides and pads
FORMS: dict[str, Callable[[Array, Array, Pair, Pads], Array]] = {
    "plain": _conv_plain,
    "explicit": _conv_explicit,
    "products": _conv_products,
}


def _back(
    dy: Array, x: Array, kernel: Array, strides: Pair, pads: Pads
) -> tuple[Array, Pads]:
    """What makes the gradient for the images of `dy` [n h' w' o], that of the result.

    `dy`, spread out by the strides, is correlated with the kernel turned by half a
    turn, its channels exchanged, [kh kw o i], and padded.
    """
    turned = lax.transpose(lax.rev(kernel, (0, 1)), (0, 1, 3, 2))
    reach = []
    for axis in (0, 1):
        k, s, low = kernel.shape[axis], strides[axis], pads[axis][0]
        spread = (dy.shape[1 + axis] - 1) * s + 1
        before = k - 1 - low
        reach.append((before, x.shape[1 + axis] + k - 1 - spread - before))
    return turned, (reach[0], reach[1])


def _kernel_gradient(
    dy: Array, x: Array, size: Pair, strides: Pair, pads: Pads
) -> Array:
    """The gradient [kh kw i o] for the kernel, from that of the result, [n h' w' o].

    The images, [i h w n] with channels as the batch and rows as the channels, are
    correlated with `dy`, [h' w' n o], spread out by the strides, as the kernel.
    """
    images = lax.optimization_barrier(lax.transpose(x, (3, 1, 2, 0)))
    steps = lax.optimization_barrier(lax.transpose(dy, (1, 2, 0, 3)))
    reach = []
    for axis in (0, 1):
        low = pads[axis][0]
        spread = (dy.shape[1 + axis] - 1) * strides[axis] + 1
        reach.append((low, size[axis] + spread - 1 - x.shape[1 + axis] - low))
    taps = lax.conv_general_dilated(
        images, steps, (1, 1), reach, rhs_dilation=strides, dimension_numbers=LAYOUT
    )  # [i kh kw o]
    return lax.transpose(lax.optimization_barrier(taps), (1, 2, 0, 3))


class Conv(nn.Module):
    """Square convolution with symmetric padding, as in the papers' PyTorch networks.

    Attributes:
      features: output channels o.
      size: side of the kernel in pixels.
      stride: step in both directions.
      use_bias: adds a bias U(+-1/sqrt(fan_in)) for each output channel.
      kernel_init: initialiser of the [size size i o] kernel.
      dtype: of the computation; parameters are float32.
      pad: pixels added on each side; None: size // 2, which keeps the image's size.
    """

    features: int
    size: int
    stride: int
    use_bias: bool
    kernel_init: nn.initializers.Initializer
    dtype: DTypeLike
    pad: int | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[n h w i] -> [n h' w' o]."""
        shape = (self.size, self.size, x.shape[3], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        pad = (self.size // 2 if self.pad is None else self.pad,) * 2
        y = conv(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            strides=(self.stride, self.stride),
            padding=(pad, pad),
        )
        if not self.use_bias:
            return y
        fan_in = self.size**2 * x.shape[3]
        bias = self.param("bias", uniform_fan_in(fan_in), (self.features,), jnp.float32)
        return y + bias.astype(self.dtype)[None, None, None, :]
