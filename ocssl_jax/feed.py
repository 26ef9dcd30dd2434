"""What arrives, gathered on the host: a chunk of stream batches of all seeds."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ocssl_jax import data
from ocssl_jax.core import Stream
from ocssl_jax.data import Dataset, Schedule
from ocssl_jax.errors import UsageError
from ocssl_jax.wiring import made


def feed(
    dataset: Dataset,
    schedules: Sequence[Schedule],
    steps: range,
    *,
    length: int,
    labelled: bool,
    pools: Sequence[np.ndarray] | None = None,
) -> Stream:
    """Stream batches of `steps`, filled up to `length` with repetitions of the last.

    Args:
      dataset: whose training images arrive.
      schedules: one a seed.
      steps: at least one.
      length: batches that one call of the learner is compiled for.
      labelled: whether the method is supervised: no other one may see a label.
      pools: of each seed, see `pools_of`; None unless the method asks for them.

    Returns:
      a Stream of NumPy arrays [length seeds ...].
    """
    t = np.minimum(np.arange(length), len(steps) - 1) + steps.start

    def pick(field: str) -> Any:
        return np.stack([getattr(s, field)[t] for s in schedules], axis=1)

    index, images = pick("id"), dataset.train_image
    gathered: Any = np.asarray(images[index])
    label: Any = dataset.train_label[index] if labelled else None
    pool: Any = None
    if pools is not None:
        phases = [np.cumsum(s.boundary)[t] - 1 for s in schedules]
        pool = np.stack([p[at] for p, at in zip(pools, phases, strict=True)], axis=1)
    when = pick("boundary"), label, pool, pick("epoch")
    return Stream(gathered, index, pick("mask"), *when)


def pools_of(dataset: Dataset, schedule: Schedule) -> np.ndarray:
    """Images of each class [p k] float32 that arrive from one boundary to the next.

    An image that arrives several times between two of them counts once.
    """
    phase = np.cumsum(schedule.boundary) - 1
    counts = []
    for number in range(phase[-1] + 1):
        own = phase == number
        ids = np.unique(schedule.id[own][schedule.mask[own]])
        label = dataset.train_label[ids]
        counts.append(np.bincount(label, minlength=len(dataset.class_names)))
    return np.stack(counts).astype(np.float32)


def balanced(
    config: ConfigDict,
    dataset: Dataset,
    schedules: tuple[Schedule, ...],
) -> tuple[Schedule, ...]:
    """The schedules of each seed, with class-balanced batches if these are asked for.

    Raises:
      UsageError: if there are no labels, or the classes do not divide a batch.
    """
    s = config.stream
    if s.balanced and dataset.train_label.min() < 0:
        raise UsageError(
            f"config.stream.balanced must be 0 for {s.dataset!r}, whose images have no "
            f"labels, got {s.balanced}"
        )
    draw = partial(
        made,
        data.balanced,
        "stream",
        label=dataset.train_label,
        classes=s.balanced,
        known=s.known,
    )
    pairs = zip(schedules, config.seeds, strict=True)
    return tuple(draw(plan, key_seed=seed) for plan, seed in pairs)
