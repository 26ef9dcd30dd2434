"""Images of a data set by their positions in it, read when they are needed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Rows:
    """Rows of an array that are read when they are needed.

    The images of a large data set lie in a file mapped to memory, and do not fit in it.
    """

    def __init__(self, array: np.ndarray, index: np.ndarray):
        """The rows `index` [m] of `array` [n ...]."""
        self.array, self.index = array, index
        self.shape = (len(index), *array.shape[1:])

    def __len__(self) -> int:
        """How many there are."""
        return len(self.index)

    def __getitem__(self, rows: Any) -> "Rows":
        """Some of the rows, by a slice, positions or a mask."""
        return Rows(self.array, self.index[rows])

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        """Read them: [m ...]."""
        del copy  # indexing has copied
        return np.asarray(self.array[self.index], dtype)


class Split(NamedTuple):
    """Images of one role in probing."""

    image: Rows  # [m h w c] uint8
    label: np.ndarray  # [m] int32
    task: np.ndarray  # [m] int32

    def of(self, tasks: Sequence[int]) -> np.ndarray:
        """Positions of the images of these tasks."""
        return np.flatnonzero(np.isin(self.task, tasks))

    def part(self, tasks: Sequence[int]) -> "Split":
        """The images of these tasks alone."""
        rows = self.of(tasks)
        return Split(self.image[rows], self.label[rows], self.task[rows])
