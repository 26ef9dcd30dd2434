"""Where both sides of a comparison start: our weights and our full memory as arrays.

Names are paths: `network/...` and `aligner/...` are parameters and running statistics,
`memory/...` the centroids and their images, `mean` and `std` the normalisation;
`stream/...` is what arrives at a memory. Our side reads its whole state from a second
file, leaf by leaf, so that making it is in neither side's measurement.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from benchmarks import learners
from benchmarks.memories import Full, batches_between
from ocssl_jax.core import TrainState
from ocssl_jax.memory.centroids_state import Centroids

NEXT = 50  # batches of a stream that are written down
Arrays = dict[str, np.ndarray]


def under(name: str, tree: Mapping[str, Any]) -> Arrays:
    """The leaves of nested dicts as `name/.../leaf`."""
    flat = traverse_util.flatten_dict(dict(tree), sep="/")
    return {f"{name}/{path}": np.asarray(leaf) for path, leaf in flat.items()}


def memory_arrays(state: Centroids) -> Arrays:
    """What the list-based memory is made of again."""
    table, window = state.table, state.window
    last, size = int(window.next), int(window.size)
    ring = np.roll(np.asarray(window.value), -last)  # oldest first
    fields = {name: getattr(table, name) for name in ("embedding", "place", "count")}
    return under(
        "memory",
        fields
        | {
            "image": state.items["image"],
            "matches": table.matches,
            "age": table.age,
            "distances": ring[len(ring) - size :],
            "threshold": window.threshold,
            "cycle": state.cycle,
        },
    )


def arrays(state: TrainState) -> Arrays:
    """All of it, from the state of a learner whose strategy is CLIMB."""
    params, model = state.params["method"], state.model
    replay, aligner = 0, 1  # the parts that CLIMB chains
    return {
        **under("network", params),
        **under("network", model),
        **under("aligner", state.params["strategy"][aligner]),
        **memory_arrays(state.strategy[replay]),
        "mean": np.asarray(learners.MEAN, np.float32),
        "std": np.asarray(learners.STD, np.float32),
    }


def save(path: Path, found: Arrays) -> None:
    """Write them, for a process without JAX."""
    np.savez(path, allow_pickle=False, **found)


def ours(path: Path) -> Path:
    """Where our own state lies, beside what PyTorch's side starts from."""
    return path.with_suffix(".ours.npz")


def save_state(path: Path, state: TrainState) -> None:
    """Write a whole state, of whatever strategy."""
    state = dataclasses.replace(state, key=jax.random.key_data(state.key))
    leaves = {f"leaf_{i}": leaf for i, leaf in enumerate(jax.tree.leaves(state))}
    np.savez(path, allow_pickle=False, **jax.device_get(leaves))


def saved_state(path: Path, like: TrainState) -> TrainState:
    """The state that was written, one of `like`'s structure."""
    with np.load(path, allow_pickle=False) as arrays:
        leaves = [arrays[f"leaf_{i}"] for i in range(len(arrays.files))]
    state = jax.device_put(jax.tree.unflatten(jax.tree.structure(like), leaves))
    return dataclasses.replace(state, key=jax.random.wrap_key_data(state.key))


def full_memory(full: Full) -> Arrays:
    """A full memory, the stream's next batches, and how often it consolidates."""
    batches = [full.stream.batch(full.met + i) for i in range(NEXT)]
    items, z = zip(*batches, strict=True)
    return memory_arrays(full.state) | {
        "stream/image": np.stack([np.asarray(batch["image"]) for batch in items]),
        "stream/z": np.stack(z),
        "every": np.asarray(batches_between(full)),
    }
