"""Image operations with every parameter given, by torchvision's formulas.

An image is [h w c] float32 in [0, 1] with c = 1 or 3, and stays in [0, 1]. Parameters
may be traced, so each operation runs under `jit` and `vmap`. As in torchvision, an
image of one channel is its own gray image: saturation, hue and grayscale leave it.

Formulas: torchvision's `transforms.functional` for float tensors.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from ocssl_jax.core import Array

LUMA = (0.2989, 0.587, 0.114)  # torchvision's rounding of ITU-R 601; sums to 0.9999
Kernel = Callable[[Array], Array]  # distance in pixels, 0 or more -> weight
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # the numbers in a jitter's order


class Box(NamedTuple):
    """A crop in whole pixels; fields are [] int32."""

    top: Array
    left: Array
    height: Array
    width: Array


class Jitter(NamedTuple):
    """Parameters of a colour jitter; factors of 1 and a shift of 0 change nothing."""

    brightness: Array  # [] float32, factor
    contrast: Array  # [] float32, factor
    saturation: Array  # [] float32, factor
    hue: Array  # [] float32, shift in turns of the colour wheel
    order: Array  # [4] int32, which of BRIGHTNESS .. HUE comes first, second, ...


def triangle(distance: Array) -> Array:
    """Bilinear interpolation's weight [...] at a distance [...] in pixels."""
    return jnp.maximum(1.0 - distance, 0.0)


def cubic(distance: Array) -> Array:
    """Bicubic interpolation's weight [...] (Keys 1981 with a = -1/2, as Pillow's)."""
    d = distance
    near = (1.5 * d - 2.5) * d * d + 1.0
    far = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    return jnp.where(d < 1.0, near, jnp.where(d < 2.0, far, 0.0))


def resize_weights(
    start: Array, length: Array, *, size: int, out: int, kernel: Kernel = triangle
) -> Array:
    """Matrix [out size] that cuts `length` pixels from `start` and resizes them.

    With antialias: the kernel's pixel is an output pixel, but at least one input pixel.
    Pixels outside the cut get weight 0 and rows are scaled to sum to 1, which is
    what cropping first means; an interpolation of the whole image would read beyond.

    Args:
      start: [] first pixel of the cut.
      length: [] pixels cut, at least 1.
      size: pixels of the input.
      out: pixels of the output.
      kernel: `triangle` or `cubic`.
    """
    first, length = jnp.float32(start), jnp.float32(length)
    scale = length / out
    centre = (jnp.arange(out, dtype=jnp.float32) + 0.5) * scale + first  # [out]
    pixel = jnp.arange(size, dtype=jnp.float32) + 0.5  # [size]
    distance = jnp.abs(pixel[None, :] - centre[:, None]) / jnp.maximum(scale, 1.0)
    inside = (pixel > first) & (pixel < first + length)
    weight = jnp.where(inside[None, :], kernel(distance), 0.0)
    return weight / jnp.sum(weight, axis=1, keepdims=True)


def resized_crop(
    image: Array, box: Box, *, size: tuple[int, int], kernel: Kernel = triangle
) -> Array:
    """Cuts `box` out of `image` [h w c], then resizes the cut to [*size c].

    Two small matrix products, no gather; a full box of the same size is the identity.
    What a cubic kernel overshoots is cut off.
    """
    chex.assert_rank(image, 3)
    h, w, _ = image.shape
    rows = resize_weights(box.top, box.height, size=h, out=size[0], kernel=kernel)
    columns = resize_weights(box.left, box.width, size=w, out=size[1], kernel=kernel)
    # Accelerators would round the factors to 10 bits or fewer: pixels have 8.
    exact = jax.lax.Precision.HIGHEST
    image = jnp.einsum("oh,hwc->owc", rows, image, precision=exact)
    image = jnp.einsum("pw,owc->opc", columns, image, precision=exact)
    return image if kernel is triangle else jnp.clip(image, 0.0, 1.0)


def flip(image: Array) -> Array:
    """`image` [h w c] mirrored left to right."""
    return jnp.flip(image, axis=1)


def solarize(image: Array) -> Array:
    """Turns what is 128 of 255 or brighter in `image` [h w c] into its negative."""
    return jnp.where(image >= 128 / 255, 1.0 - image, image)


def luma(image: Array) -> Array:
    """Gray image [h w 1] of `image` [h w c]."""
    chex.assert_axis_dimension_comparator(image, 2, lambda c: c in (1, 3), "1 or 3")
    if image.shape[2] == 1:
        return image
    r, g, b = (image[..., i : i + 1] for i in range(3))
    return LUMA[0] * r + LUMA[1] * g + LUMA[2] * b


def grayscale(image: Array) -> Array:
    """The gray image of `image` [h w c], repeated to c channels."""
    return jnp.broadcast_to(luma(image), image.shape)


def blend(image: Array, other: Array | float, factor: Array) -> Array:
    """Returns factor · image + (1 − factor) · other, in [0, 1]; `image` is [h w c]."""
    return jnp.clip(factor * image + (1.0 - factor) * other, 0.0, 1.0)


def brightness(image: Array, factor: Array) -> Array:
    """Blends `image` [h w c] with black."""
    return blend(image, 0.0, factor)


def contrast(image: Array, factor: Array) -> Array:
    """Blends `image` [h w c] with the mean of its gray image."""
    return blend(image, jnp.mean(luma(image)), factor)


def saturation(image: Array, factor: Array) -> Array:
    """Blends `image` [h w c] with its gray image; one channel is left as it is."""
    return image if image.shape[2] == 1 else blend(image, luma(image), factor)


def hue(image: Array, shift: Array) -> Array:
    """Turns the colours of `image` [h w c] by `shift` turns of HSV's wheel.

    One channel is left as it is. The way back from HSV needs no choice among six
    sectors: each channel is value − chroma · clip(min(k, 4 − k), 0, 1), with k the hue
    in sixths of a turn, plus 5, 3 or 1 for red, green or blue, modulo 6.
    """
    if image.shape[2] == 1:
        return image
    r, g, b = image[..., 0], image[..., 1], image[..., 2]
    value = jnp.maximum(jnp.maximum(r, g), b)
    chroma = value - jnp.minimum(jnp.minimum(r, g), b)
    span = jnp.where(chroma > 0.0, chroma, 1.0)
    green_or_blue = jnp.where(g >= b, 2.0 + (b - r) / span, 4.0 + (r - g) / span)
    sixths = jnp.where((r >= g) & (r >= b), (g - b) / span, green_or_blue)
    sixths = sixths + 6.0 * shift

    def channel(offset: float) -> Array:
        k = sixths + offset
        k = k - 6.0 * jnp.floor(k / 6.0)
        return value - chroma * jnp.clip(jnp.minimum(k, 4.0 - k), 0.0, 1.0)

    return jnp.stack([channel(5.0), channel(3.0), channel(1.0)], axis=-1)


def color_jitter(image: Array, jitter: Jitter) -> Array:
    """Brightness, contrast, saturation and hue of `image` [h w c], in `jitter.order`.

    Under `vmap` a `switch` a step would compute all four operations four times. Here
    hue, the dear one, runs once: the blends due before it, hue, the blends due after
    it, each blend choosing what it mixes in. benchmarks/augment.py compares the two.
    """
    chex.assert_shape(jitter.order, (4,))
    one = jnp.ones_like(jitter.saturation)
    colour = jitter.saturation if image.shape[2] == 3 else one
    factors = jnp.stack([jitter.brightness, jitter.contrast, colour, one])
    turn = jnp.argmax(jitter.order == HUE)

    def blended(image: Array, place: int) -> Array:
        op = jitter.order[place]
        gray = luma(image)
        flat = jnp.where(op == CONTRAST, jnp.mean(gray), 0.0)  # black for brightness
        return blend(image, jnp.where(op == SATURATION, gray, flat), factors[op])

    for place in range(3):
        image = jnp.where(place < turn, blended(image, place), image)
    image = hue(image, jitter.hue)
    for place in range(1, 4):
        image = jnp.where(place > turn, blended(image, place), image)
    return image


def gaussian_blur(image: Array, sigma: Array, *, kernel: int) -> Array:
    """Blurs `image` [h w c] with a Gaussian, mirrored at the border without repeat.

    Shifted sums along each axis: a convolution with a kernel for each image would
    become a grouped one under `vmap`.

    Args:
      image: [h w c], h and w above kernel / 2.
      sigma: [] standard deviation in pixels, above 0.
      kernel: odd number of taps, whose weights are scaled to sum to 1.
    """
    half = kernel // 2
    taps = jnp.arange(-half, half + 1, dtype=jnp.float32)
    weights = jnp.exp(-0.5 * jnp.square(taps / sigma))
    weights = weights / jnp.sum(weights)
    for axis in (0, 1):
        n = image.shape[axis]
        pad = [(half, half) if a == axis else (0, 0) for a in range(3)]
        padded = jnp.pad(image, pad, mode="reflect")
        image = jnp.zeros_like(image)
        for i in range(kernel):
            part = jax.lax.slice_in_dim(padded, i, i + n, axis=axis)
            image = image + weights[i] * part
    return image
