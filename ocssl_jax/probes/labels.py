"""How many labels a probe may see: a stratified subset fixed by its seed alone."""

from typing import Any

import numpy as np


def subset(seed: int, y: Any, *, per_class: int = 0, ratio: float = 1.0) -> np.ndarray:
    """Positions of the training labels a probe may use, sorted, the same share a class.

    The choice depends on `seed` and `y` only, so every strategy and every experience is
    judged with the same labels. A smaller budget is a subset of a larger one.

    Args:
      seed: seed of the choice.
      y: [n] integer labels.
      per_class: labels a class, all of a class that has fewer; 0 means no such limit.
      ratio: share of each class in (0, 1], rounded to the nearest, at least one label.

    Returns:
      [m] int64 positions in `y`, ascending; all n without a limit.

    Raises:
      ValueError: if a limit is out of range, or both are given.
    """
    if per_class < 0:
        raise ValueError(f"per_class must be 0 (all) or positive, got {per_class}")
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio must be above 0 and at most 1, got {ratio}")
    if per_class and ratio < 1:
        raise ValueError("give per_class or ratio as the label budget, not both")
    y = np.asarray(y)
    generator = np.random.default_rng(seed)
    kept = [np.empty(0, np.int64)]
    for label in np.unique(y):
        positions = generator.permutation(np.flatnonzero(y == label))
        share = max(1, int(np.floor(ratio * len(positions) + 0.5)))
        kept.append(positions[: per_class or share])
    return np.sort(np.concatenate(kept))
