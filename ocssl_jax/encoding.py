"""Features of many images by one compiled function, `batch_size` at a time."""

from collections.abc import Callable

import numpy as np

from ocssl_jax.compiling import jit
from ocssl_jax.core import Array, Variables
from ocssl_jax.rows import Rows

Encode = Callable[[Variables, Array], Array]  # of uint8 images [m h w c], [m f]


class Encoder:
    """Encodes any number of images; all calls are of one size, so one is compiled."""

    def __init__(self, encode: Encode, *, batch_size: int):
        """Compile nothing yet; the first call does."""
        self._batch_size = batch_size
        self._encode = jit(encode)

    def __call__(self, variables: Variables, images: Rows | np.ndarray) -> np.ndarray:
        """Features [m f] float32 of uint8 `images` [m h w c], m at least 1."""
        size, features = self._batch_size, []
        for start in range(0, len(images), size):
            part = np.asarray(images[start : start + size])
            padded = np.concatenate([part, np.repeat(part[:1], size - len(part), 0)])
            encoded = self._encode(variables, padded)
            features.append(np.asarray(encoded)[: len(part)])
        return np.concatenate(features)
