"""What arrives, gathered on the host: a chunk of stream batches of all seeds."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ocssl_jax.core import Stream
from ocssl_jax.data import Dataset, Schedule


def feed(
    dataset: Dataset,
    schedules: Sequence[Schedule],
    steps: range,
    *,
    length: int,
    labelled: bool,
) -> Stream:
    """Stream batches of `steps`, filled up to `length` with repetitions of the last.

    Args:
      dataset: whose training images arrive.
      schedules: one a seed.
      steps: at least one.
      length: batches that one call of the learner is compiled for.
      labelled: whether the method is supervised: no other one may see a label.

    Returns:
      a Stream of NumPy arrays [length seeds ...].
    """
    t = np.minimum(np.arange(length), len(steps) - 1) + steps.start

    def pick(field: str) -> Any:
        return np.stack([getattr(s, field)[t] for s in schedules], axis=1)

    index, images = pick("id"), dataset.train_image
    gathered: Any = np.asarray(images[index])
    label: Any = dataset.train_label[index] if labelled else None
    when = pick("boundary"), label, pick("epoch")
    return Stream(gathered, index, pick("mask"), *when)
