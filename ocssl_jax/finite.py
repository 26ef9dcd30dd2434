"""A run ends as soon as its numbers are none any more."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ocssl_jax.checkpoint import Checkpoints
from ocssl_jax.errors import TrainingError

WATCHED = ("loss", "gradient_norm", "parameter_norm")


def check_finite(
    first: int,
    seen: Sequence[Sequence[Mapping[str, Any]]],
    seeds: Sequence[int],
    checkpoints: Checkpoints,
) -> None:
    """Look at the metrics of stream batches, [batch][seed], after the `first` ones.

    Raises:
      TrainingError: naming the batch, the seed and the last good checkpoint.
    """
    for step, per_seed in enumerate(seen, first + 1):
        for seed, metrics in zip(seeds, per_seed, strict=True):
            for name in WATCHED:
                if not np.isfinite(metrics[name]):
                    raise TrainingError(
                        f"{name} is {metrics[name]} at stream batch {step}, seed "
                        f"{seed}; the last good checkpoint is "
                        f"{checkpoints.latest() or 'none'}. A smaller "
                        f"optimizer.learning_rate often helps."
                    )
