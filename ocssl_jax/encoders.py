"""Encoders as files: one safetensors a seed, tensors named by their path in the module.

Unless `checkpoint.encoders` is False a run keeps those of every experience, in
`encoders/after_<experience>/seed_<seed>.safetensors`, to be probed at any later time.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import numpy as safetensors

from ocssl_jax.core import Head, TrainState, Variables
from ocssl_jax.errors import UsageError
from ocssl_jax.workdir import write_bytes

FOLDER, FINAL = "encoders", "encoder"  # of every experience; of the finished run
COLLECTIONS = ("params", "batch_stats")
HEAD = "head"  # beside them, a classifier's, if the method is supervised
LENS = "lens"  # variables of what the encoder looks through, if the strategy has that


def of(
    states: Mapping[int, TrainState],
    encoder: Callable[[TrainState], Variables],
    head: Callable[[TrainState], Head] | None,
) -> Iterator[tuple[int, Variables]]:
    """Each seed and its encoder, the one that is probed, on the host.

    Args:
      states: by seed.
      encoder: gives the encoder, and its lens.
      head: gives the classifier that goes with it, None of unsupervised methods.
    """
    for seed, state in states.items():
        found = encoder(state)
        yield seed, jax.device_get(found | ({HEAD: head(state)} if head else {}))


def keep(
    folder: Path, found: Iterable[tuple[int, Variables]], *, missing_only: bool
) -> None:
    """Write each seed's encoder; one that is there may be of an older attempt."""
    for seed, variables in found:
        path = file(folder, seed)
        if not (missing_only and path.exists()):
            save(path, variables)


def named(tree: Mapping[str, Any], prefix: str) -> dict[str, np.ndarray]:
    """Leaves of nested dicts as arrays named by their path, `prefix.a.b`."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path({prefix: tree})
    }


def save(path: Path, variables: Variables) -> None:
    """Write an encoder in one go: tensors `params.*`, `batch_stats.*` and others."""
    kinds = [name for name in (*COLLECTIONS, HEAD, LENS) if name in variables]
    parts = (named(variables[name], name) for name in kinds)
    tensors = {name: leaf for part in parts for name, leaf in part.items()}
    write_bytes(path, safetensors.save(tensors))


def load(path: Path) -> Variables:
    """The encoder that `save` wrote.

    Raises:
      UsageError: if the file is damaged or gone.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UsageError(f"{path} is gone; bring it back") from error
    try:
        tensors = safetensors.load(content)
    except Exception as error:  # whatever a damaged header provokes
        raise UsageError(f"{path} is no whole encoder; delete it") from error
    variables: Variables = {name: {} for name in COLLECTIONS}
    for name, tensor in tensors.items():
        *groups, last = name.split(".")
        node = variables
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = tensor
    return variables


def file(folder: Path, seed: int) -> Path:
    """Where the encoder of a seed lies in `folder`."""
    return folder / f"seed_{seed}.safetensors"


def after(workdir: Path, experience: int) -> Path:
    """The folder of the encoders of an experience."""
    return workdir / FOLDER / f"after_{experience}"


def found(workdir: Path, seeds: Sequence[int], *, last: int) -> dict[int, Path]:
    """Experience -> folder of its encoders, where there is one of every seed.

    Args:
      workdir: of the run, which may be under way.
      seeds: of the run.
      last: experience of the stream's end; a finished run has its encoders in any case.
    """
    folders = {experience: after(workdir, experience) for experience in range(last + 1)}
    whole = lambda folder: all(file(folder, seed).is_file() for seed in seeds)
    if not whole(folders[last]):
        folders[last] = workdir / FINAL
    return {number: folder for number, folder in folders.items() if whole(folder)}
