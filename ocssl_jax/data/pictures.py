"""One encoded picture to one uint8 array, whatever mode the file is in.

Resizing is the base transform of the OCSSL suite: to (size, size) ignoring the aspect
ratio, or for CLEAR the shorter side to `size` and then the middle cut out; bilinear
with antialiasing. EXIF orientation and transparency are ignored, as in
the reference's loader; an animation gives its first frame.
"""

import io
import warnings

import numpy as np
from PIL import Image

GRAY_OR_COLOUR = {1: "L", 3: "RGB"}  # number of channels -> Pillow's mode


def _eight_bits(image: Image.Image) -> Image.Image:
    """A 16-bit grey picture scaled to 8 bits; Pillow itself would clip it at 255."""
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def _resized(image: Image.Image, size: int, *, crop: bool) -> Image.Image:
    if not size or image.size == (size, size):
        return image
    if not crop:
        return image.resize((size, size), Image.Resampling.BILINEAR)
    shorter = min(image.size)
    width, height = (size * side // shorter for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def decode(data: bytes, *, channels: int, size: int, crop: bool = False) -> np.ndarray:
    """Decodes an encoded picture (PNG, JPEG, ... whatever its file was called).

    Args:
      data: the file's bytes.
      channels: 1 for grey or 3 for RGB; pictures of other modes are converted.
      size: side of the resized picture in pixels; 0 keeps the picture's own size.
      crop: cut the middle out of the resized picture and so keep its aspect ratio.

    Returns:
      [h w channels] uint8.

    Raises:
      Exception: of many kinds, if the bytes are no whole picture.
    """
    with warnings.catch_warnings():
        # Transparency in palettes and big pictures: both are handled, neither is news.
        warnings.simplefilter("ignore")
        file = Image.open(io.BytesIO(data))
        file.load()
        image = _eight_bits(file).convert(GRAY_OR_COLOUR[channels])
    image = _resized(image, size, crop=crop)
    return np.asarray(image, np.uint8).reshape(image.height, image.width, channels)
