"""Images as a user of the library hands them over."""

from typing import Any

import numpy as np

from ocssl_jax.errors import UsageError

Images = Any  # [n h w c] uint8, or floats in [0, 1]: of NumPy, JAX or nested lists
Shape = tuple[int, int, int]  # h, w, c


def pixels_of(images: Images) -> np.ndarray:
    """Images as uint8 [n h w c].

    Raises:
      UsageError: if they are none.
    """
    found = np.asarray(images)
    if found.ndim != 4 or not found.size:
        raise UsageError(
            f"images must be [n h w c] with n at least 1, got shape {found.shape}"
        )
    if found.dtype == np.uint8:
        return found
    if not np.issubdtype(found.dtype, np.floating):
        raise UsageError(f"images must be uint8 or floats in [0, 1], got {found.dtype}")
    if not ((found >= 0) & (found <= 1)).all():  # a NaN is neither
        raise UsageError("images of floats must lie in [0, 1]")
    return np.rint(found * 255).astype(np.uint8)


def shape_of(pixels: np.ndarray) -> Shape:
    """Of one image."""
    height, width, channels = pixels.shape[1:]
    return height, width, channels


def filled(pixels: np.ndarray, size: int) -> np.ndarray:
    """The first `size` images, repeated from the first on where there are fewer."""
    return pixels[np.arange(size) % len(pixels)]
