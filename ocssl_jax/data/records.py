"""Data sets prepared by tensorflow-datasets as array_record, read without TensorFlow.

The folder is `<data_dir>/<name>/<version>/`. Looking for it costs no import, so missing
data are reported at once, and TFDS is imported only to decode, never from the cache.
"""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from ocssl_jax.data.cache import Row, Source, fingerprint
from ocssl_jax.data.errors import DataError
from ocssl_jax.data.pictures import decode

BATCH = 1000  # records fetched at a time


def prepare_command(name: str, data_dir: Path) -> str:
    """The one command that gets a data set."""
    place = shlex.quote(str(data_dir))
    return f"python -m ocssl_jax.data.prepare {name} --data_dir {place}"


def versions(name: str, data_dir: Path) -> list[Path]:
    """Prepared versions of a data set, oldest first.

    Half-prepared ones, whose folder is not named as a version, are left out.
    """
    folder = data_dir / name
    found = folder.iterdir() if folder.is_dir() else ()
    whole = [
        path
        for path in found
        if re.fullmatch(r"\d+\.\d+\.\d+", path.name)
        and (path / "dataset_info.json").is_file()
    ]
    return sorted(whole, key=lambda path: [int(part) for part in path.name.split(".")])


def source(name: str, data_dir: Path, *, channels: int, size: int) -> Source:
    """The newest prepared version of a TFDS data set.

    Args:
      name: its name at TFDS.
      data_dir: TFDS's data folder.
      channels: 1 or 3, of the decoded images.
      size: side of the resized images in pixels; 0 keeps their own.

    Raises:
      DataError: there is none, or it is not in the array_record format.
    """
    found = versions(name, data_dir)
    if not found:
        raise DataError(
            f"no data set {name} in {data_dir / name}; "
            f"get it with: {prepare_command(name, data_dir)}"
        )
    folder = found[-1]
    form = json.loads((folder / "dataset_info.json").read_text()).get("fileFormat")
    if form != "array_record":
        raise DataError(
            f"{folder} holds {form} files, which only TensorFlow reads; move it away "
            f"and make array_record ones: {prepare_command(name, data_dir)}"
        )
    files = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.iterdir())
    ]
    return Source(
        name=f"{name}-{size}" if size else name,
        fingerprint=fingerprint(folder.name, files),
        class_names=lambda: _class_names(folder),
        rows=lambda split: _rows(folder, split, channels=channels, size=size),
    )


def _class_names(folder: Path) -> tuple[str, ...]:
    import tensorflow_datasets as tfds

    features = tfds.builder_from_directory(str(folder)).info.features
    return tuple(features["label"].names)


def _rows(folder: Path, split: str, *, channels: int, size: int) -> Iterator[Row]:
    import tensorflow_datasets as tfds

    decoders = {"image": tfds.decode.SkipDecoding()}  # to bytes: we decode them
    try:
        builder = tfds.builder_from_directory(str(folder))
        records = builder.as_data_source(split, decoders=decoders)
        for start in range(0, len(records), BATCH):
            numbers = range(start, min(start + BATCH, len(records)))
            batch = records.__getitems__(list(numbers))
            for i, record in zip(numbers, batch, strict=True):
                image = decode(record["image"], channels=channels, size=size)
                yield Row(image, int(record["label"]), f"{split}/{i}")
    except Exception as error:  # the C++ reader raises several kinds
        reason = str(error).strip().splitlines() or [type(error).__name__]
        name, data_dir = folder.parent.name, folder.parent.parent
        raise DataError(
            f"{folder}: the {split} records cannot be read ({reason[0]}); delete the "
            f"folder and make it again: {prepare_command(name, data_dir)}"
        ) from error
