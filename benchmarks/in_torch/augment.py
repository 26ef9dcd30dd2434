"""SimCLR's augmentation of small images, drawn per image, on whole batches of tensors.

torchvision's transforms draw once for a batch, and a loop over images is slow; so here
every operation takes a parameter per image, with torchvision's formulas. What is drawn
and what is done with it are kept apart, so that other draws can be fed in.
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

SCALE, RATIO, TRIES = (0.2, 1.0), (3 / 4, 4 / 3), 10
BRIGHTNESS = CONTRAST_RANGE = SATURATION_RANGE = (0.4, 1.6)
SHIFT = 0.2
LUMA = (0.2989, 0.587, 0.114)
CONTRAST, SATURATION, HUE = 1, 2, 3  # in an order; 0 is brightness
ORDERS = list(itertools.permutations(range(4)))


class Box(NamedTuple):
    """Crops of n images in pixels; all fields are [n] float32."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


class Drawn(NamedTuple):
    """Parameters of n images; all fields are [n] but `order`, [n 4]."""

    box: Box
    flip: Tensor  # bool
    jitter: Tensor  # bool
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    order: Tensor  # int64
    gray: Tensor  # bool


def draw(n: int, size: int, device: torch.device) -> Drawn:
    """Random parameters for `n` square images with sides of `size` pixels."""
    u = torch.rand(8, n, device=device)
    between = lambda x, low, high: low + (high - low) * x
    orders = torch.tensor(ORDERS, device=device)
    return Drawn(
        boxes(n, size, device),
        flip=u[0] < 0.5,
        jitter=u[1] < 0.8,
        brightness=between(u[2], *BRIGHTNESS),
        contrast=between(u[3], *CONTRAST_RANGE),
        saturation=between(u[4], *SATURATION_RANGE),
        hue=between(u[5], -SHIFT, SHIFT),
        order=orders[(u[6] * len(ORDERS)).long()],
        gray=u[7] < 0.2,
    )


def boxes(n: int, size: int, device: torch.device) -> Box:
    """Inception's crops; of each image the first try that fits, else all of it."""
    u = torch.rand(2, n, TRIES, device=device)
    area = size * size * (SCALE[0] + (SCALE[1] - SCALE[0]) * u[0])
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    aspect = torch.exp(low + (high - low) * u[1])
    height, width = (area / aspect).sqrt().round(), (area * aspect).sqrt().round()
    fits = (height > 0) & (height <= size) & (width > 0) & (width <= size)
    first = fits.int().argmax(dim=1, keepdim=True)
    found = fits.any(dim=1)
    height, width = (
        torch.where(found, x.gather(1, first)[:, 0], size) for x in (height, width)
    )
    v = torch.rand(2, n, device=device)
    top = (v[0] * (size - height + 1)).floor()
    left = (v[1] * (size - width + 1)).floor()
    return Box(top, left, height, width)


def weights(start: Tensor, length: Tensor, size: int) -> Tensor:
    """[n size size] matrices that cut and resize one axis, bilinear with antialias."""
    scale = (length / size)[:, None]
    place = torch.arange(size, device=start.device) + 0.5
    centre = place[None, :] * scale + start[:, None]  # [n out]
    distance = (place[None, None, :] - centre[:, :, None]).abs()
    distance = distance / scale.clamp(min=1.0)[:, :, None]
    inside = (place > start[:, None]) & (place < (start + length)[:, None])  # [n in]
    weight = (1.0 - distance).clamp(min=0.0) * inside[:, None, :]
    return weight / weight.sum(dim=2, keepdim=True)


def luma(x: Tensor) -> Tensor:
    """[n 3 h w] -> [n 1 h w]."""
    r, g, b = x.split(1, dim=1)
    return LUMA[0] * r + LUMA[1] * g + LUMA[2] * b


def hue(x: Tensor, shift: Tensor) -> Tensor:
    """Turn the colours of [n 3 h w] by `shift` [n 1 1] turns of HSV's wheel."""
    r, g, b = x.unbind(dim=1)
    value, chroma = x.amax(dim=1), x.amax(dim=1) - x.amin(dim=1)
    span = torch.where(chroma > 0, chroma, 1.0)
    rest = torch.where(g >= b, 2.0 + (b - r) / span, 4.0 + (r - g) / span)
    sixths = torch.where((r >= g) & (r >= b), (g - b) / span, rest) + 6.0 * shift
    channels = []
    for offset in (5.0, 3.0, 1.0):
        k = (sixths + offset) % 6.0
        channels.append(value - chroma * torch.minimum(k, 4.0 - k).clamp(0.0, 1.0))
    return torch.stack(channels, dim=1)


def color_jitter(x: Tensor, d: Drawn) -> Tensor:
    """The four colour operations of [n 3 h w], each image in its own order.

    Hue is computed once: blends due before it, hue, blends due after it.
    """
    wide = lambda value: value[:, None, None, None]
    factors = torch.stack(
        [d.brightness, d.contrast, d.saturation, torch.ones_like(d.hue)], dim=1
    )
    turn = (d.order == HUE).int().argmax(dim=1)

    def blended(x: Tensor, place: int) -> Tensor:
        op = d.order[:, place]
        factor, gray = wide(factors.gather(1, op[:, None])[:, 0]), luma(x)
        mean = gray.mean(dim=(1, 2, 3), keepdim=True)
        flat = torch.where(wide(op == CONTRAST), mean, 0.0)
        other = torch.where(wide(op == SATURATION), gray, flat)
        return (factor * x + (1.0 - factor) * other).clamp(0.0, 1.0)

    for place in range(3):
        x = torch.where(wide(place < turn), blended(x, place), x)
    x = hue(x, d.hue[:, None, None])
    for place in range(1, 4):
        x = torch.where(wide(place > turn), blended(x, place), x)
    return x


def apply(x: Tensor, d: Drawn) -> Tensor:
    """[n 3 h w] in [0, 1] to an augmented image each."""
    size = x.shape[-1]
    box = d.box
    rows, columns = (
        weights(start, length, size)
        for start, length in ((box.top, box.height), (box.left, box.width))
    )
    x = rows[:, None] @ x @ columns[:, None].transpose(2, 3)
    wide = lambda value: value[:, None, None, None]
    x = torch.where(wide(d.flip), x.flip(3), x)
    x = torch.where(wide(d.jitter), color_jitter(x, d), x)
    return torch.where(wide(d.gray), luma(x).expand_as(x), x)


def normalizer(
    mean: np.ndarray, std: np.ndarray, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """(x - mean) / std, per channel of [... c h w] in [0, 1]."""
    centre, spread = (
        torch.tensor(s, device=device)[:, None, None] for s in (mean, std)
    )
    return lambda x: (x - centre) / spread


def views(images: Tensor, count: int) -> Tensor:
    """uint8 [n 3 h w] -> [count n 3 h w] in [0, 1], each image augmented on its own."""
    x = (images.float() / 255.0).repeat(count, 1, 1, 1)
    seen = apply(x, draw(len(x), x.shape[-1], x.device))
    return seen.reshape(count, *images.shape)
