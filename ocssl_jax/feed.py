"""What arrives, gathered on the host: a chunk of stream batches of all seeds."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ocssl_jax.core import Stream
from ocssl_jax.data import Dataset, Schedule


def feed(
    dataset: Dataset, schedules: Sequence[Schedule], steps: range, *, length: int
) -> Stream:
    """Stream batches of `steps`, filled up to `length` with repetitions of the last.

    Args:
      dataset: whose training images arrive.
      schedules: one a seed.
      steps: at least one.
      length: batches that one call of the learner is compiled for.

    Returns:
      a Stream of NumPy arrays [length seeds ...], without labels: no SSL strategy may
      see one.
    """
    t = np.minimum(np.arange(length), len(steps) - 1) + steps.start

    def pick(field: str) -> Any:
        return np.stack([getattr(s, field)[t] for s in schedules], axis=1)

    index, images = pick("id"), dataset.train_image
    gathered: Any = np.asarray(images[index])
    return Stream(
        image=gathered, id=index, mask=pick("mask"), boundary=pick("boundary")
    )
