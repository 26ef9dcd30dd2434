"""Class folders of pictures: `<root>/<split>/<class>/*`.

Splits are `train` and `test` (or `val`, where there is no `test`). Pictures that lie in
the split folder itself are unlabelled, label -1. Classes are the class folders of all
splits in the order of their names, pictures of a class in the order of theirs, so the
order never depends on the file system. Hidden files, files that are not named as
pictures, and folders below a class are left out; a picture that cannot be read is
named and skipped.
"""

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ocssl_jax.data.cache import Row, Source, fingerprint
from ocssl_jax.data.errors import DataError
from ocssl_jax.data.pictures import decode

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
BLOCK = 256  # pictures decoded before they are written: bounds the memory
UNLABELLED = ""  # stands for the class of pictures in the split folder itself


class File(NamedTuple):
    """A picture file; `size` and `time` tell whether it has changed."""

    path: str  # below the root
    category: str  # its class folder, or UNLABELLED
    size: int  # 0 for all that is no regular file, links to nowhere included
    time: int


def source(root: Path, *, channels: int, size: int) -> Source:
    """A folder data set.

    Args:
      root: holds the folders `train` and `test` (or `val`); the latter may be absent.
      channels: 1 or 3, of the decoded images.
      size: side of the resized images in pixels.

    Raises:
      ValueError: no size is given.
      DataError: there is no `train` folder, or no picture in it.
    """
    if size < 1:
        raise ValueError(
            f"the data set in {root} has pictures of any size: give an image_size "
            f"in pixels, at least 1, not {size}"
        )
    if not (root / "train").is_dir():
        raise DataError(
            f"no folder {root / 'train'}; a folder data set is laid out as "
            f"{root}/train/<class>/<picture> and {root}/test/<class>/<picture>"
        )
    held_out = "test" if (root / "test").is_dir() else "val"
    files = {"train": _scan(root, "train"), "test": _scan(root, held_out)}
    if not files["train"]:
        raise DataError(
            f"no picture in {root / 'train'}; pictures are files named "
            f"{', '.join('*' + suffix for suffix in sorted(SUFFIXES))}"
        )
    every = [*files["train"], *files["test"]]
    names = tuple(sorted({file.category for file in every} - {UNLABELLED}))
    label = {name: i for i, name in enumerate(names)} | {UNLABELLED: -1}
    return Source(
        name=f"folder-{size}",
        fingerprint=fingerprint(channels, every),
        class_names=lambda: names,
        rows=lambda split: _rows(
            root, files[split], label, channels=channels, size=size
        ),
    )


def _scan(root: Path, split: str) -> list[File]:
    """The pictures of a split, unlabelled ones first."""
    if not (root / split).is_dir():
        return []
    files, folders = _listing(root, split, UNLABELLED)
    for name in folders:
        files += _listing(root, f"{split}/{name}", name)[0]
    return files


def _listing(root: Path, folder: str, category: str) -> tuple[list[File], list[str]]:
    """Picture files of one folder and the names of its folders, both sorted."""
    files, folders = [], []
    try:
        names = sorted(n for n in os.listdir(root / folder) if n[0] != ".")
    except OSError as error:
        raise DataError(
            f"{root / folder}: cannot be listed ({error.strerror})"
        ) from error
    for name in names:
        path = f"{folder}/{name}"
        facts = _stat(root / path)
        if facts is not None and stat.S_ISDIR(facts.st_mode):
            folders.append(name)
        elif os.path.splitext(name)[1].lower() in SUFFIXES:
            size, time = (facts.st_size, facts.st_mtime_ns) if facts else (0, 0)
            files.append(File(path, category, size, time))
    return files, folders


def _stat(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:  # a link to nowhere or to itself
        return None


def _rows(
    root: Path, files: list[File], label: dict[str, int], *, channels: int, size: int
) -> Iterator[Row]:
    def read(file: File) -> np.ndarray | None:
        if not file.size:  # pipes and devices too: opening one may wait for ever
            return None
        try:
            data = (root / file.path).read_bytes()
            return decode(data, channels=channels, size=size)
        except Exception:  # Pillow's decoders raise any kind on broken files
            return None

    # Pillow lets go of the interpreter while it decodes: threads use every core.
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files), BLOCK):
            block = files[start : start + BLOCK]
            for file, image in zip(block, pool.map(read, block), strict=True):
                yield Row(image, label[file.category], file.path)
