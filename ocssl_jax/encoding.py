"""Features of many images by one compiled function, `batch_size` at a time."""

from collections.abc import Callable, Iterator

import numpy as np

from ocssl_jax.compiling import jit
from ocssl_jax.core import Array, Key, Variables
from ocssl_jax.rows import Rows

# Of uint8 images [m h w c], some also of keys [m] by which they are seen: [m f].
Encode = Callable[..., Array]


class Encoder:
    """Encodes any number of images; all calls are of one size, so one is compiled."""

    def __init__(self, encode: Encode, *, batch_size: int):
        """Compile nothing yet; the first call does."""
        self._batch_size = batch_size
        self._encode = jit(encode)

    def __call__(self, variables: Variables, images: Rows | np.ndarray) -> np.ndarray:
        """Features [m f] float32 of uint8 `images` [m h w c], m at least 1."""
        return np.concatenate(list(self.blocks(variables, images)))

    def blocks(
        self, variables: Variables, images: Rows | np.ndarray, keys: Key | None = None
    ) -> Iterator[np.ndarray]:
        """Features of the first `batch_size` images, of the next, and so on.

        Args:
          variables: the encoder's.
          images: [m h w c] uint8, m at least 1.
          keys: [m], one an image, where these are seen by keys.
        """
        size = self._batch_size
        for start in range(0, len(images), size):
            part = np.asarray(images[start : start + size])
            rows = np.arange(size) % len(part)  # the last block is filled up
            own = () if keys is None else (keys[start + rows],)
            encoded = self._encode(variables, part[rows], *own)
            yield np.asarray(encoded)[: len(part)]

    def count(self, images: int) -> int:
        """The blocks of so many images."""
        return -(-images // self._batch_size)
