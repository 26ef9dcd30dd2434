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
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ocssl_jax.data.cache import Row, Source, fingerprint
from ocssl_jax.data.errors import DataError
from ocssl_jax.data.pictures import READING, decode

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
BLOCK = 256  # pictures decoded before they are written: bounds the memory
SHOWN = 3  # unreadable pictures that are named
UNLABELLED = ""  # stands for the class of pictures in the split folder itself
Splits = Mapping[str, Sequence["File"]]  # 'train' and 'test' -> their pictures


class File(NamedTuple):
    """A picture file; `size` and `time` tell whether it has changed."""

    path: str  # below the root
    category: str  # its class folder, or UNLABELLED
    size: int  # 0 for all that is no regular file, links to nowhere included
    time: int
    domain: int = -1


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
    check_size(root, size)
    if not (root / "train").is_dir():
        if not root.is_dir():
            raise DataError(f"there is no folder {root}")
        raise DataError(
            f"no folder {root / 'train'}; a folder data set is laid out as "
            f"{root}/train/<class>/<picture> and {root}/test/<class>/<picture>, or "
            f"without labels as {root}/train/<picture>"
        )
    held_out = "test" if (root / "test").is_dir() else "val"
    files = {"train": scan(root, "train"), "test": scan(root, held_out)}
    if not files["train"]:
        raise DataError(no_picture(root / "train"))
    return of_files("folder", root, files, channels=channels, size=size)


def check_size(root: Path, size: int) -> None:
    """Raises ValueError unless a size for pictures of any size is given."""
    if size < 1:
        raise ValueError(
            f"the data set in {root} has pictures of any size: give an image_size "
            f"in pixels, at least 1, not {size}"
        )


def no_picture(folder: Path) -> str:
    """What to say of a folder without pictures."""
    suffixes = ", ".join("*" + suffix for suffix in sorted(SUFFIXES))
    return f"no picture in {folder}; pictures are files named {suffixes}"


def of_files(
    name: str,
    root: Path,
    files: Splits,
    *,
    channels: int,
    size: int,
    class_names: tuple[str, ...] = (),
    domain_names: tuple[str, ...] = (),
    crop: bool = False,
) -> Source:
    """The data set that these picture files make.

    Args:
      name: of its cache entry.
      root: the folder that the files' paths start from.
      files: the pictures of each split.
      channels: 1 or 3, of the decoded images.
      size: side of the resized images in pixels.
      class_names: by label; empty for the files' categories in the order of their
        names.
      domain_names: by domain; empty if there are no domains.
      crop: as `pictures.decode` has it.
    """
    every = [*files["train"], *files["test"]]
    found = sorted({file.category for file in every} - {UNLABELLED})
    names = class_names or tuple(found)
    strays = tuple(file.path for file in every if file.category == UNLABELLED)
    label = {name: i for i, name in enumerate(names)} | {UNLABELLED: -1}

    def rows(split: str) -> Iterator[Row]:
        read = partial(picture_of, root, channels=channels, size=size, crop=crop)
        for file, image in decoded(files[split], read):
            yield Row(image, label[file.category], file.path, file.domain)

    return Source(
        name=f"{name}-{size}",
        fingerprint=fingerprint(READING, channels, crop, names, domain_names, every),
        class_names=lambda: names,
        rows=rows,
        domain_names=domain_names,
        strays=strays if names else (),
        bytes=len(every) * size * size * channels,
    )


def picture_of(
    root: Path, file: File, *, channels: int, size: int, crop: bool = False
) -> np.ndarray | None:
    """The decoded picture [size size channels] uint8; None if it cannot be read."""
    if not file.size:  # pipes and devices too: opening one may wait for ever
        return None
    try:
        data = (root / file.path).read_bytes()
        return decode(data, channels=channels, size=size, crop=crop)
    except Exception:  # Pillow's decoders raise any kind on broken files
        return None


def decoded(
    files: Sequence[File], read: Callable[[File], np.ndarray | None]
) -> Iterator[tuple[File, np.ndarray | None]]:
    """Each file and what `read` makes of it, in their order."""
    # Pillow lets go of the interpreter while it decodes: threads use every core.
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files), BLOCK):
            block = files[start : start + BLOCK]
            yield from zip(block, pool.map(read, block), strict=True)


def below(root: Path, known: Container[str] = ()) -> list[File]:
    """The pictures in a folder and all folders below it, in the order of their paths.

    Those whose path is `known` are left out. Each is of the category of the folder that
    it lies in; of `root` itself: UNLABELLED.
    Links to folders are not followed, since they may lead in circles.

    Raises:
      DataError: if a folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # else it has just been removed
            raise DataError(
                f"{error.filename}: cannot be listed ({error.strerror})"
            ) from error

    found = []
    for place, inside, names in os.walk(root, onerror=refuse):
        inside[:] = [name for name in inside if name[0] != "."]
        folder = Path(place).relative_to(root)
        for name in names:
            if name[0] != "." and os.path.splitext(name)[1].lower() in SUFFIXES:
                path = (folder / name).as_posix()
                if path not in known:
                    found.append(picture(root, path, folder.name or UNLABELLED))
    return sorted(found)


def skipped(where: str, read: int, names: Sequence[str]) -> str:
    """What to say of the files `names` that could not be read beside `read` others."""
    shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    return (
        f"{where}: {len(names)} of {read + len(names)} pictures cannot be read and are "
        f"skipped: {shown}"
    )


def scan(root: Path, folder: str, *, domain: int = -1) -> list[File]:
    """The pictures of a folder and of its class folders, unlabelled ones first."""
    if not (root / folder).is_dir():
        return []
    files, folders = listing(root, folder, UNLABELLED, domain=domain)
    for name in folders:
        files += listing(root, f"{folder}/{name}", name, domain=domain)[0]
    return files


def listing(
    root: Path, folder: str, category: str, *, domain: int = -1
) -> tuple[list[File], list[str]]:
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
            files.append(_file(path, category, domain, facts))
    return files, folders


def picture(root: Path, path: str, category: str, *, domain: int = -1) -> File:
    """One picture file that is known by its path below the root."""
    return _file(path, category, domain, _stat(root / path))


def _file(path: str, category: str, domain: int, facts: os.stat_result | None) -> File:
    size, time = (facts.st_size, facts.st_mtime_ns) if facts else (0, 0)
    return File(path, category, size, time, domain)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:  # a link to nowhere or to itself
        return None
