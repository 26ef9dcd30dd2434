r"""Features of picture files as one table: Parquet, or NumPy's .npz.

Columns `path`, `class` (only where some picture lies in a folder of its own) and
`feature`; a row a picture. Bytes of a name that are not UTF-8 are written
as `\xff`.
"""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ocssl_jax import replacing
from ocssl_jax.errors import UsageError


class Features(NamedTuple):
    """A row a picture."""

    path: list[str]
    category: list[str]  # the folder that it lies in; '': none of its own
    feature: np.ndarray  # [n f] float32


def text(name: str) -> str:
    """The name of a file as text, which on disk is any bytes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def write_npz(file: BinaryIO, table: Features) -> None:
    """Arrays of texts and `feature` [n f] float32; read without unpickling."""
    columns: dict[str, Any] = {"path": np.array(table.path)}
    if any(table.category):
        columns["class"] = np.array(table.category)
    np.savez(file, allow_pickle=False, feature=table.feature, **columns)


def write_parquet(file: BinaryIO, table: Features) -> None:
    """Texts, a class that is null where there is none, and lists of f float32."""
    import pyarrow
    from pyarrow import parquet

    columns = {"path": pyarrow.array(table.path, pyarrow.string())}
    if any(table.category):
        names = [name or None for name in table.category]
        columns["class"] = pyarrow.array(names, pyarrow.string())
    values = pyarrow.array(table.feature.reshape(-1), pyarrow.float32())
    width = table.feature.shape[1]
    columns["feature"] = pyarrow.FixedSizeListArray.from_arrays(values, width)
    parquet.write_table(pyarrow.table(columns), file)


KINDS: dict[str, Callable[[BinaryIO, Features], None]] = {
    ".parquet": write_parquet,
    ".npz": write_npz,
}


def check(path: Path) -> None:
    """Refuse a file that could not be written, before there is anything to write.

    Raises:
      UsageError: saying what it may be called, or what has to be installed.
    """
    if path.suffix not in KINDS:
        raise UsageError(f"--out must end in {' or '.join(KINDS)}, got {path}")
    if path.suffix == ".parquet" and not importlib.util.find_spec("pyarrow"):
        raise UsageError(
            "--out in .parquet needs pyarrow: pip install 'ocssl_jax[parquet]', or "
            "name a .npz file"
        )
    replacing.check(path, "--out")


def write(path: Path, table: Features) -> None:
    """Replace the file, of the kind that its suffix says, in one go."""
    paths, categories = map(text, table.path), map(text, table.category)
    with replacing.replacing(path) as file:
        KINDS[path.suffix](file, Features([*paths], [*categories], table.feature))
