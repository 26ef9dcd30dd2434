"""What a probe is: a classifier fitted on frozen features, and the checks at its door.

`fit(key, train_x, train_y, val_x, val_y) -> predict` and `predict(x) -> labels`, with
features x [n f] float32 and labels y [n] int. Predicting instead of scoring leaves the
caller one vector from which every accuracy follows: per task, seen tasks, all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Predict = Callable[[Any], np.ndarray]  # features [n f] -> labels [n]
Fit = Callable[..., Predict]  # (key, train_x, train_y, val_x, val_y)


@dataclass(frozen=True)
class Swept:
    """A `Predict` that a sweep of learning rates has chosen."""

    predict: Predict
    rate: float  # the chosen one
    tried: dict[float, float]  # rate -> accuracy, percent, on the rows held out for it

    def __call__(self, x: Any) -> np.ndarray:
        """Labels [n] of features [n f]."""
        return self.predict(x)


class Looking(NamedTuple):
    """A probe that looks at the training images again each epoch: for evaluation.

    Of `Views` of n images, their plain features x [n f] and labels y [n].
    """

    fit: Callable[..., Predict]  # (key, views, x, y); a sweep gives a `Swept`


def checked(x: Any, y: Any, *, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features `x` [n f] and labels `y` [n] as numpy arrays, or a reason why not.

    Args:
      x: [n f] features; they are cast to float32.
      y: [n] integer labels.
      name: what the pair is called in a message, such as 'training'.

    Raises:
      ValueError: if the shapes disagree, there are no rows, labels are no integers or
        a feature is not finite.
    """
    x, y = np.asarray(x, np.float32), np.asarray(y)
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ValueError(
            f"{name} data must be features [n f] and labels [n], "
            f"got {list(x.shape)} and {list(y.shape)}"
        )
    if not len(y):
        raise ValueError(f"{name} data must hold at least one sample")
    if not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"{name} labels must be integers, got {y.dtype}")
    if not np.isfinite(x).all():
        raise ValueError(f"{name} features must be finite: the encoder gave NaN or inf")
    return x, y
