"""Random transforms: what to draw, and what to do with it.

A `Transform` keeps the two apart. `draw` sees only a key and the image's shape, so the
caller decides who shares a draw (each image its own, or a whole batch one), and a test
can feed the same draw to an oracle. Sets are lists of these, joined by `chain`. A
transform draws all its numbers at once: calls of the generator are most of what there
is to compile.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ocssl_jax.augment import ops
from ocssl_jax.core import Array, Key

TRIES = 10  # torchvision's, before it falls back to a central crop
ORDERS = np.array(list(itertools.permutations(range(4))), np.int32)  # [24 4]

Shape = tuple[int, ...]  # an image's (h, w, c)


class Transform(NamedTuple):
    """A random image operation in two halves; `apply` keeps the image's shape."""

    draw: Callable[[Key, Shape], Any]  # -> parameters, a pytree of arrays
    apply: Callable[[Array, Any], Array]  # (image [h w c], parameters) -> [h w c]


def chain(transforms: Sequence[Transform]) -> Transform:
    """One after the other, each with its own key; an empty list is the identity."""

    def draw(key: Key, shape: Shape) -> tuple[Any, ...]:
        keys = jax.random.split(key, len(transforms))
        return tuple(t.draw(k, shape) for t, k in zip(transforms, keys, strict=True))

    def apply(image: Array, parameters: tuple[Any, ...]) -> Array:
        for transform, chosen in zip(transforms, parameters, strict=True):
            image = transform.apply(image, chosen)
        return image

    return Transform(draw, apply)


def fixed(operation: Callable[[Array], Array]) -> Transform:
    """An operation on [h w c] that draws nothing."""
    return Transform(lambda key, shape: (), lambda image, _: operation(image))


def maybe(probability: float, transform: Transform) -> Transform:
    """`transform` with `probability`, else the image as it is."""

    def draw(key: Key, shape: Shape) -> tuple[Array, Any]:
        k_coin, k_inner = jax.random.split(key)
        return jax.random.bernoulli(k_coin, probability), transform.draw(k_inner, shape)

    def apply(image: Array, parameters: tuple[Array, Any]) -> Array:
        coin, inner = parameters
        return jnp.where(coin, transform.apply(image, inner), image)

    return Transform(draw, apply)


def between(u: Array, low: float, high: float) -> Array:
    """Moves `u`, uniform on [0, 1), to [low, high)."""
    return low + (high - low) * u


def whole(u: Array, count: Array | int) -> Array:
    """Turns `u`, uniform on [0, 1), into one of 0 .. count - 1, int32."""
    return jnp.floor(u * jnp.float32(count)).astype(jnp.int32)


def central_box(h: int, w: int, ratio: tuple[float, float]) -> ops.Box:
    """The largest central box of `h` by `w` pixels with width/height within `ratio`."""
    height, width = h, w
    if w / h < ratio[0]:
        height = round(w / ratio[0])
    elif w / h > ratio[1]:
        width = round(h * ratio[1])
    corner = (h - height) // 2, (w - width) // 2
    return ops.Box(*(jnp.int32(side) for side in (*corner, height, width)))


def draw_box(
    key: Key, shape: Shape, *, scale: tuple[float, float], ratio: tuple[float, float]
) -> ops.Box:
    """Inception's crop (Szegedy et al. 2015) with torchvision's rounding and tries.

    Args:
      key: consumed.
      shape: the image's (h, w, c).
      scale: bounds of the box's share of the area, drawn uniformly.
      ratio: bounds of width / height, drawn uniformly in its logarithm.

    Returns:
      The first of `TRIES` boxes that fits, anywhere in the image with equal chance; a
      central one if none does.
    """
    h, w, _ = shape
    u = jax.random.uniform(key, (2 * TRIES + 2,))
    area = h * w * between(u[:TRIES], *scale)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = jnp.exp(between(u[TRIES:-2], low, high))
    height = jnp.round(jnp.sqrt(area / aspect)).astype(jnp.int32)  # [TRIES]
    width = jnp.round(jnp.sqrt(area * aspect)).astype(jnp.int32)
    fits = (height > 0) & (height <= h) & (width > 0) & (width <= w)
    first = jnp.argmax(fits)
    top = whole(u[-2], h - height[first] + 1)
    left = whole(u[-1], w - width[first] + 1)
    box = ops.Box(top, left, height[first], width[first])
    found = jnp.any(fits)
    central = central_box(h, w, ratio)
    return ops.Box(*(jnp.where(found, a, b) for a, b in zip(box, central, strict=True)))


def random_resized_crop(
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    kernel: ops.Kernel = ops.triangle,
) -> Transform:
    """A random box (`draw_box`) resized to the whole image with `kernel`."""
    return Transform(
        lambda key, shape: draw_box(key, shape, scale=scale, ratio=ratio),
        lambda image, box: ops.resized_crop(
            image, box, size=(image.shape[0], image.shape[1]), kernel=kernel
        ),
    )


def color_jitter(
    *, brightness: float, contrast: float, saturation: float, hue: float
) -> Transform:
    """Four colour operations in random order.

    Args:
      brightness: x of a factor uniform on [max(0, 1 − x), 1 + x].
      contrast: as brightness.
      saturation: as brightness.
      hue: h of a shift uniform on [−h, h], at most 0.5.
    """
    bounds = [(max(0.0, 1 - x), 1 + x) for x in (brightness, contrast, saturation)]

    def draw(key: Key, shape: Shape) -> ops.Jitter:
        del shape
        u = jax.random.uniform(key, (5,))
        return ops.Jitter(
            brightness=between(u[0], *bounds[0]),
            contrast=between(u[1], *bounds[1]),
            saturation=between(u[2], *bounds[2]),
            hue=between(u[3], -hue, hue),
            order=jnp.asarray(ORDERS)[whole(u[4], len(ORDERS))],
        )

    return Transform(draw, ops.color_jitter)


def gaussian_blur(*, kernel: int, sigma: tuple[float, float]) -> Transform:
    """A blur of `kernel` taps, its deviation uniform within `sigma` pixels."""
    return Transform(
        lambda key, shape: jax.random.uniform(key, minval=sigma[0], maxval=sigma[1]),
        lambda image, drawn: ops.gaussian_blur(image, drawn, kernel=kernel),
    )
