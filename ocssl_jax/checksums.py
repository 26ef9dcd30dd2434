"""Checksums of a checkpoint: what a disk changed is not taken for what it held.

The storage below checks its indices, but not the arrays: a flipped bit would be
restored as another number, and nothing would ever tell.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ocssl_jax.core import TrainState


def sums(states: Sequence[TrainState], progress: Mapping[str, Any]) -> dict[str, Any]:
    """CRC-32 of each array of `states`, in their order, and of `progress` as JSON."""
    return {
        "states": [_of_array(leaf) for leaf in jax.tree.leaves(states)],
        "progress": zlib.crc32(json.dumps(progress, sort_keys=True).encode()),
    }


def check(
    known: Mapping[str, Any], states: Sequence[TrainState], progress: Mapping[str, Any]
) -> None:
    """Raise unless `known` are the sums of `states` and `progress`.

    Raises:
      ValueError: naming the first array that has changed.
    """
    found = sums(states, progress)
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(states)]
    for path, old, new in zip(paths, known["states"], found["states"], strict=True):
        if old != new:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise ValueError(f"{name} is not as it was saved")
    if found["progress"] != known["progress"]:
        raise ValueError("its progress is not as it was saved")


def _of_array(x: Any) -> int:
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    flat = np.ascontiguousarray(np.asarray(x)).reshape(-1)
    return zlib.crc32(flat.view(np.uint8).data)
