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

READING = 2  # raise it when the same file comes to be read as another array
GRAY_OR_COLOUR = {1: "L", 3: "RGB"}  # number of channels -> Pillow's mode


def _eight_bits(image: Image.Image) -> Image.Image:
    """A grey picture of more bits scaled to 8; Pillow itself would clip it at 255.

    16 bits lose their lower half. Numbers of 32 bits, whole or not, do not tell their
    range: up to 1 (floats) they are shares of white, up to 255 levels of 8 bits, above
    (whole ones) of 16 bits. What lies outside is black or white.
    """
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode not in ("I", "F"):
        return image
    levels = np.nan_to_num(np.asarray(image, np.float64))
    if image.mode == "F" and levels.max() <= 1:
        levels = np.round(255 * levels)
    elif image.mode == "I" and levels.max() > 255:
        levels = levels // 256
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


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
