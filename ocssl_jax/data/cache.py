"""Decode once: a data set as memory-mapped uint8 `.npy` files beside its source.

An entry is a folder `<place>/<name>-<fingerprint>/` that holds six arrays and an
`index.json` with their shapes and checksums. The fingerprint stands for the source
files, so data that changed get a new entry and the old one is removed. Every file is
written elsewhere and moved into place, the index last, so that a reader or a second
writer only ever sees whole files; two writers of one entry write the same bytes.
"""

import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ocssl_jax.data.errors import DataError

T = TypeVar("T")
SPLITS = ("train", "test")
FIELDS = ("image", "label", "domain")
ARRAYS = tuple(f"{split}_{field}" for split in SPLITS for field in FIELDS)
FILES = (*(f"{array}.npy" for array in ARRAYS), "index.json")
ABANDONED = 24 * 3600  # seconds after which a half-made entry is nobody's
PATIENCE, AGAIN = 10, 60  # seconds before the first and between later news
LAYOUT = 2  # raise it when the files of an entry change their meaning


class Row(NamedTuple):
    """One example of a source."""

    image: np.ndarray | None  # [h w c] uint8; None: the file could not be read
    label: int  # -1: unlabelled
    name: str  # of the file, for the report of unreadable ones
    domain: int = -1  # -1: the data set has none


class Source(NamedTuple):
    """A data set before it is decoded; nothing is read until a function is called."""

    name: str
    fingerprint: str  # a different one whenever the files differ
    class_names: Callable[[], tuple[str, ...]]
    rows: Callable[[str], Iterator[Row]]  # 'train' or 'test' -> its examples in order
    domain_names: tuple[str, ...] = ()  # by domain; () if it has none
    strays: tuple[str, ...] = ()  # unlabelled files where others have classes
    bytes: int = 0  # of all decoded images, as far as that is known beforehand


class Decoded(NamedTuple):
    """A data set as arrays."""

    arrays: dict[str, np.ndarray]  # <split>_image [n h w c] u8, _label and _domain [n]
    class_names: tuple[str, ...]
    domain_names: tuple[str, ...]
    skipped: tuple[str, ...]  # files that could not be read
    checksums: tuple[int, ...] = ()  # CRC-32 of each of `ARRAYS`


def fingerprint(*facts: Any) -> str:
    """A short hash of facts about the source files, such as names, sizes and times."""
    text = json.dumps([LAYOUT, *facts])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def user_place(data_dir: Path) -> Path:
    """Where things of a `data_dir` go that cannot be written to: the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    absolute = os.fsencode(data_dir.absolute())
    return Path(home) / "ocssl_jax" / hashlib.sha256(absolute).hexdigest()[:16]


def writable(folder: Path) -> bool:
    """Whether files may be made in `folder`, or in what exists of the path to it.

    A folder without any write bit is meant to be left alone: root leaves it alone too.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK) and bool(folder.stat().st_mode & 0o222)


def decoded(source: Source, *, data_dir: Path) -> Decoded:
    """Opens the entry of a source, decoding the source first if there is none.

    Args:
      source: the data set.
      data_dir: the folder the data set lies in. The entry goes to `ocssl_cache` in it,
        or to the user's cache (`$XDG_CACHE_HOME` or `~/.cache`) if it is read-only.

    Returns:
      Its arrays, images memory-mapped and read-only.

    Raises:
      DataError: a file of the entry is damaged, no picture can be read, or the entry
        cannot be written.
    """
    entry = f"{source.name}-{source.fingerprint}"
    places = [data_dir / "ocssl_cache", user_place(data_dir) / "ocssl_cache"]
    for place in places:
        # Of a folder that may not be looked into `Path.is_file` raises an error.
        if all(os.path.isfile(place / entry / file) for file in FILES):
            return _open(place / entry)
    place = places[0] if writable(places[0]) else places[1]
    try:
        _build(source, place / entry)
    except OSError as error:
        raise DataError(
            f"{place / entry}: cannot write the decoded images ({error.strerror}); "
            "free some space there, or set XDG_CACHE_HOME and make the data read-only"
        ) from error
    return _open(place / entry)


def _build(source: Source, entry: Path) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    for left in entry.parent.glob(".building-*"):
        if time.time() - left.stat().st_mtime > ABANDONED:
            shutil.rmtree(left, ignore_errors=True)  # by a process that was killed
    _check_space(source, entry)
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=entry.parent))
    try:
        index: dict[str, Any] = {"name": source.name, "arrays": {}, "skipped": []}
        shape: tuple[int, ...] = ()
        for split in SPLITS:
            rows = told(source.rows(split), f"decoding {source.name} once: {split}")
            shape = _write_split(building, split, rows, shape, index)
        index["fingerprint"] = source.fingerprint
        index["class_names"] = source.class_names()
        index["domain_names"] = source.domain_names
        (building / "index.json").write_text(json.dumps(index, indent=1))
        entry.mkdir(exist_ok=True)
        for file in FILES:
            os.replace(building / file, entry / file)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    for other in entry.parent.glob(f"{source.name}-{'?' * len(source.fingerprint)}"):
        if other != entry:  # decoded from files that have changed since
            shutil.rmtree(other, ignore_errors=True)


def _check_space(source: Source, entry: Path) -> None:
    """Says so at once if the images cannot fit, not after an hour of decoding."""
    free = shutil.disk_usage(entry.parent).free
    if source.bytes > free:
        raise DataError(
            f"{entry}: the decoded images need {source.bytes / 1e9:.1f} GB and "
            f"{free / 1e9:.1f} GB are free; free some space there, or set "
            "XDG_CACHE_HOME and make the data read-only"
        )


def told(rows: Iterable[T], what: str) -> Iterator[T]:
    """The rows; where they take long, it says on stderr how many there were so far."""
    due = time.monotonic() + PATIENCE
    for number, row in enumerate(rows, 1):
        yield row
        if time.monotonic() > due:
            due = time.monotonic() + AGAIN
            print(f"{what}, {number} images so far", file=sys.stderr, flush=True)


def _write_split(
    folder: Path,
    split: str,
    rows: Iterator[Row],
    shape: tuple[int, ...],
    index: dict[str, Any],
) -> tuple[int, ...]:
    """Streams the rows to disk, so that the images need not fit in memory."""
    labels: list[int] = []
    domains: list[int] = []
    crc = 0
    with open(folder / f"{split}_image.npy", "wb") as file:
        for row in rows:
            if row.image is None:
                index["skipped"].append(row.name)
                continue
            shape = shape or row.image.shape
            if row.image.shape != shape:
                raise DataError(
                    f"{row.name}: its shape {row.image.shape} is not the {shape} of "
                    "the images before it; give an image_size to make them equal"
                )
            if not labels:
                file.write(_header((0, *shape)))
            pixels = row.image.tobytes()
            crc = zlib.crc32(pixels, crc)
            file.write(pixels)
            labels.append(row.label)
            domains.append(row.domain)
        if not shape:
            tried = len(index["skipped"])
            raise DataError(
                f"{index['name']} ({tried} files tried): no image of it can be read"
            )
        # The format pads its header so that the number of rows may grow in place.
        file.seek(0)
        file.write(_header((len(labels), *shape)))
    index["arrays"][f"{split}_image"] = _facts("uint8", (len(labels), *shape), crc)
    for field, values in (("label", labels), ("domain", domains)):
        array = np.asarray(values, np.int32)
        np.save(folder / f"{split}_{field}.npy", array, allow_pickle=False)
        crc = zlib.crc32(array.data)
        index["arrays"][f"{split}_{field}"] = _facts("int32", array.shape, crc)
    return shape


def _header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    fields = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, fields)
    return file.getvalue()


def _facts(dtype: str, shape: tuple[int, ...], crc: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "crc32": crc}


def _damaged(file: Path, why: str) -> DataError:
    return DataError(f"{file}: damaged cache file ({why}); delete it to rebuild it")


def _open(entry: Path) -> Decoded:
    try:
        index = json.loads((entry / "index.json").read_text())
        facts = {array: dict(index["arrays"][array]) for array in ARRAYS}
        about = [index[key] for key in ("class_names", "domain_names", "skipped")]
        names, domains, skipped = map(tuple, about)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(entry / "index.json", "not the index of an entry") from error
    arrays = {a: _open_array(entry / f"{a}.npy", facts[a]) for a in ARRAYS}
    checksums = tuple(facts[array]["crc32"] for array in ARRAYS)
    return Decoded(arrays, names, domains, skipped, checksums)


def _open_array(file: Path, facts: dict[str, Any]) -> np.ndarray:
    try:
        array = np.lib.format.open_memmap(file, mode="r")  # never unpickles
    except Exception as error:  # a damaged header raises whatever its text provokes
        raise _damaged(file, "no whole .npy file") from error
    found = _facts(str(array.dtype), array.shape, 0)
    # Reading every byte once costs less than the first epoch saves by finding it read.
    found["crc32"] = zlib.crc32(array.data) if array.flags.c_contiguous else None
    for fact, value in found.items():
        if facts.get(fact) != value:
            raise _damaged(file, f"{fact} {value} instead of {facts.get(fact)}")
    return array
