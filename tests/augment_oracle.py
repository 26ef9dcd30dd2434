"""Slow augmentation, written apart from the library: Pillow, colorsys, plain loops.

Images are NumPy float64 [h w c] in [0, 1]; parameters are Python numbers. Follows
torchvision's transforms for float tensors, one image at a time.
"""

import colorsys
import math

import numpy as np
from PIL import Image

LUMA = np.array([0.2989, 0.587, 0.114])


def resized_crop(image, top, left, height, width, size):
    """Crops first, then lets Pillow resize the cut, channel by channel in mode F."""
    cut = image[top : top + height, left : left + width].astype(np.float32)
    planes = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(cut[..., c])).resize(
                (size[1], size[0]), Image.Resampling.BILINEAR
            )
        )
        for c in range(image.shape[2])
    ]
    return np.stack(planes, axis=-1).astype(np.float64)


def gray(image):
    """[h w] the gray image."""
    return image[..., 0] if image.shape[2] == 1 else image @ LUMA


def grayscale(image):
    return np.repeat(gray(image)[..., None], image.shape[2], axis=2)


def brightness(image, factor):
    return np.clip(image * factor, 0, 1)


def contrast(image, factor):
    return np.clip(factor * image + (1 - factor) * gray(image).mean(), 0, 1)


def saturation(image, factor):
    if image.shape[2] == 1:
        return image
    return np.clip(factor * image + (1 - factor) * grayscale(image), 0, 1)


def hue(image, shift):
    if image.shape[2] == 1:
        return image
    out = np.empty_like(image)
    for place in np.ndindex(image.shape[:2]):
        h, s, v = colorsys.rgb_to_hsv(*image[place])
        out[place] = colorsys.hsv_to_rgb((h + shift) % 1.0, s, v)
    return out


def color_jitter(image, factors, order):
    """`factors` for brightness, contrast, saturation, hue; `order` numbers them."""
    for which in order:
        op = (brightness, contrast, saturation, hue)[which]
        image = op(image, factors[which])
    return image


def gaussian_blur(image, sigma, kernel):
    """A two-dimensional kernel, pixel by pixel; the mirror does not repeat the edge."""
    half = kernel // 2
    h, w, _ = image.shape
    out = np.zeros_like(image)
    total = 0.0
    for dy in range(-half, half + 1):
        for dx in range(-half, half + 1):
            weight = math.exp(-(dy * dy + dx * dx) / (2 * sigma * sigma))
            total += weight
            for y in range(h):
                source = abs(y + dy) if y + dy < h else 2 * (h - 1) - (y + dy)
                xs = [abs(x + dx) for x in range(w)]
                xs = [x if x < w else 2 * (w - 1) - x for x in xs]
                out[y] += weight * image[source, xs]
    return out / total


def box(random, h, w, scale, ratio):
    """One crop (top, left, height, width), drawn with a `random.Random`."""
    for _ in range(10):
        area = h * w * random.uniform(*scale)
        aspect = math.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1])))
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= w and 0 < height <= h:
            return (
                random.randint(0, h - height),
                random.randint(0, w - width),
                height,
                width,
            )
    raise AssertionError("no box fits; the tests of this oracle never come here")


def views_of(image, drawn, blurred):
    """One view of uint8 [h w c] by the `simclr` or `common` order of operations.

    Args:
      image: uint8 [h w c].
      drawn: ((top, left, height, width), flip, (jitter?, factors, order), gray?,
        (blur?, sigma)); the last is read only if `blurred`.
      blurred: whether the set ends with a blur.
    """
    crop, flip, (jittered, factors, order), grayed, *rest = drawn
    out = resized_crop(image / 255.0, *crop, size=image.shape[:2])
    if flip:
        out = out[:, ::-1]
    if jittered:
        out = color_jitter(out, factors, order)
    if grayed:
        out = grayscale(out)
    if blurred and rest[0][0]:
        out = gaussian_blur(out, rest[0][1], 5)
    return out
