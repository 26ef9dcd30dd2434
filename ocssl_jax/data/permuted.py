"""Permuted streams: one data set again and again, the pixels in ever another order.

Permuted MNIST (Goodfellow et al. 2013) is the usual one. Each order of the pixels is a
domain; the first one is the images' own. No copy is made: pixels are moved when images
are read.
"""

from typing import Any

import numpy as np

from ocssl_jax.data.datasets import Dataset
from ocssl_jax.data.splits import PERMUTATION, generator


class Permuted:
    """Images under several orders of their pixels, like one array that held them all.

    Image i under order t is row t n + i.
    """

    def __init__(self, image: np.ndarray, orders: np.ndarray):
        """Nothing is read.

        Args:
          image: [n h w c].
          orders: [t h*w] int, each a permutation; channels stay together.
        """
        self._image, self._orders = image, orders
        self.shape = (len(orders) * len(image), *image.shape[1:])
        self.dtype = image.dtype

    def __len__(self) -> int:
        """Images under all orders together."""
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """The rows `index` [...] int, as an array [... h w c]."""
        index = np.asarray(index)
        order, place = np.divmod(index.reshape(-1), max(len(self._image), 1))
        flat = (len(place), self._orders.shape[1], self.shape[-1])
        pixels = np.asarray(self._image[place]).reshape(flat)
        found = np.empty_like(pixels)
        for t in np.unique(order):
            rows = order == t
            found[rows] = pixels[rows][:, self._orders[t]]
        return found.reshape(*index.shape, *self.shape[1:])


def permuted(dataset: Dataset, *, tasks: int, seed: int) -> Dataset:
    """`dataset` with `tasks` domains, each the whole of it with pixels in one order.

    Args:
      dataset: in domains or not, which are forgotten.
      tasks: orders of the pixels, at least 1; the first one leaves them as they are.
      seed: of the others.
    """
    pixels = int(np.prod(dataset.train_image.shape[1:3]))
    drawn = [generator(seed, PERMUTATION, t).permutation(pixels) for t in range(tasks)]
    orders = np.stack([np.arange(pixels), *drawn[1:]])

    def images(array: np.ndarray) -> Any:
        return Permuted(array, orders)

    def domains(label: np.ndarray) -> np.ndarray:
        return np.repeat(np.arange(tasks, dtype=np.int32), len(label))

    return dataset._replace(
        train_image=images(dataset.train_image),
        train_label=np.tile(dataset.train_label, tasks),
        train_domain=domains(dataset.train_label),
        test_image=images(dataset.test_image),
        test_label=np.tile(dataset.test_label, tasks),
        test_domain=domains(dataset.test_label),
        domain_names=tuple(f"order {t}" for t in range(tasks)),
    )
