"""Images and labels as a user of the library hands them over."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ocssl_jax.core import Array, Stream
from ocssl_jax.errors import UsageError

Images = Any  # [n h w c] uint8, or floats in [0, 1]: of NumPy, JAX or nested lists
Shape = tuple[int, int, int]  # h, w, c


class Pixels(NamedTuple):
    """What a network takes: uint8 images, normalised by channel."""

    shape: Shape  # of one image
    mean: tuple[float, ...]
    std: tuple[float, ...]


def array_of(given: Any, must: str) -> np.ndarray:
    """What was given as one array.

    Raises:
      UsageError: if it is none, such as a list of rows of several lengths; it begins
        with `must`.
    """
    try:
        return np.asarray(given)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{must}; what was given is no array") from error


def pixels_of(images: Images) -> np.ndarray:
    """Images as uint8 [n h w c].

    Raises:
      UsageError: if they are none.
    """
    found = array_of(images, "images must be [n h w c], all of one size")
    if found.ndim != 4 or not found.size:
        raise UsageError(
            f"images must be [n h w c] with n at least 1, got shape {found.shape}"
        )
    if found.dtype == np.uint8:
        return found
    if not jnp.issubdtype(found.dtype, jnp.floating):
        raise UsageError(f"images must be uint8 or floats in [0, 1], got {found.dtype}")
    if not np.issubdtype(found.dtype, np.floating):  # NumPy does not know bfloat16
        found = found.astype(np.float32)
    if not ((found >= 0) & (found <= 1)).all():  # a NaN is neither
        raise UsageError("images of floats must lie in [0, 1]")
    return np.rint(found * 255).astype(np.uint8)


def pair_of(held_out: Any) -> tuple[Images, Any]:
    """Images and their labels, each still as they were given.

    Raises:
      UsageError: if it is no pair.
    """
    if not isinstance(held_out, (tuple, list)) or len(held_out) != 2:
        raise UsageError("held_out must be a pair, (images, labels)")
    images, labels = held_out
    return images, labels


def labels_of(labels: Any, images: int, classes: int) -> np.ndarray | None:
    """Labels as int32 [images], below `classes`; None where that is 0 and none given.

    Raises:
      UsageError: if they are missing, not wanted, or others.
    """
    if not classes:
        if labels is not None:
            raise UsageError("labels are for config.method.name='supervised' alone")
        return None
    must = f"labels must be {images} whole numbers, one an image"
    found = array_of([] if labels is None else labels, must)
    known = found.shape == (images,) and np.issubdtype(found.dtype, np.integer)
    if not known or found.min() < 0 or found.max() >= classes:
        raise UsageError(
            f"labels must be {images} whole numbers from 0 to {classes - 1}, one an "
            f"image (config.method.supervised.classes={classes})"
        )
    return found.astype(np.int32)


def shape_of(pixels: np.ndarray) -> Shape:
    """Of one image."""
    height, width, channels = pixels.shape[1:]
    return height, width, channels


def filled(rows: np.ndarray, size: int) -> np.ndarray:
    """The first `size` rows, repeated from the first on where there are fewer."""
    return rows[np.arange(size) % len(rows)]


def stream_of(
    pixels: Array,
    label: Array | None,
    real: Array | int,
    boundary: Array | bool,
    step: Array,
) -> Stream:
    """What arrives as stream batch `step` [], counted from 0, a boundary if the first.

    The images [b h w c], of which `real` [] count, are numbered as they arrive.
    """
    row = jnp.arange(len(pixels))
    return Stream(
        image=pixels,
        id=(step * len(pixels) + row) & jnp.iinfo(jnp.int32).max,
        mask=row < real,
        boundary=boundary | (step == 0),
        label=label,
    )
