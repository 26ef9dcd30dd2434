"""Training images as a classifier meets them again and again: new views each epoch."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import jax
import numpy as np

from ocssl_jax.core import Key, Variables
from ocssl_jax.encoding import Encoder
from ocssl_jax.rows import Rows

Blocks = Iterator[np.ndarray]  # features [m f] of some images, one block after another
# Hands blocks on; is told how many images they are of in all. Whoever watches may show
# how far it is, or raise to end it.
Watch = Callable[[Blocks, int], Blocks]


class Views(NamedTuple):
    """Images, and the frozen encoder that sees each with a key of its own."""

    encoder: Encoder  # of `Learning.encode_views`
    variables: Variables
    images: Rows  # [n h w c] uint8
    watch: Watch = lambda blocks, total: blocks

    def of(self, rows: np.ndarray) -> "Views":
        """Of the images at these positions alone."""
        return self._replace(images=self.images[rows])

    def epochs(self, key: Key, count: int) -> Iterator[np.ndarray]:
        """Features [n f] float32 of the images, `count` times, each with other views.

        What is drawn for an image depends on the key, the epoch and its position, not
        on how many are encoded at once. One epoch's features are in memory at a time.
        """
        n = len(self.images)

        def blocks() -> Blocks:
            for epoch in range(count):
                keys = jax.random.split(jax.random.fold_in(key, epoch), n)
                yield from self.encoder.blocks(self.variables, self.images, keys)

        seen = self.watch(blocks(), count * n)
        for _ in range(count):
            yield np.concatenate(list(islice(seen, self.encoder.count(n))))
