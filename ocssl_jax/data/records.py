"""Data sets prepared by tensorflow-datasets as array_record, read without TensorFlow.

The folder is `<data_dir>/<name>/<version>/`, where a name may be that of a builder's
config, such as `domainnet/real`. Looking for it costs no import, so missing data are
reported at once, and TFDS is imported only to decode, never from the cache.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ocssl_jax.data.cache import Row, Source, fingerprint
from ocssl_jax.data.errors import DataError
from ocssl_jax.data.pictures import decode

BLOCK = 256  # records fetched and decoded at a time: bounds the memory


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


def prepared(name: str, data_dir: Path) -> Path:
    """The folder of the newest prepared version.

    Raises:
      DataError: there is none, it is damaged, or not in the array_record format.
    """
    found = versions(name, data_dir)
    if not found:
        raise DataError(
            f"no data set {name} in {data_dir / name}; "
            f"get it with: {prepare_command(name, data_dir)}"
        )
    folder = found[-1]
    try:
        form = json.loads((folder / "dataset_info.json").read_text()).get("fileFormat")
    except (OSError, ValueError, AttributeError) as error:
        raise _damaged(folder, "dataset_info.json is no description") from error
    if form != "array_record":
        raise DataError(
            f"{folder} holds {form} files, which only TensorFlow reads; move it away "
            f"and make array_record ones: {prepare_command(name, data_dir)}"
        )
    return folder


def _damaged(folder: Path, why: str) -> DataError:
    return DataError(f"{folder}: {why}; delete the folder and make it again")


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
    folder = prepared(name, data_dir)
    return Source(
        name=f"{name}-{size}" if size else name,
        fingerprint=fingerprint(folder.name, facts(folder)),
        class_names=lambda: class_names(folder),
        rows=lambda split: rows(folder, split, channels=channels, size=size),
    )


def facts(folder: Path) -> list[tuple[Any, ...]]:
    """What changes whenever the files of a prepared data set do."""
    return [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.iterdir())
    ]


def check_classes(folder: Path) -> None:
    """Refuse a description that names other classes than TFDS's own.

    TFDS imports whatever class its `features.json` names: data would choose which code
    is run.

    Raises:
      DataError: naming the first such class, or saying that there is no description.
    """

    def named(node: Any) -> Iterator[str]:
        if isinstance(node, Mapping):
            for key, value in node.items():
                if key.replace("_", "").lower() in ("pythonclassname", "type"):
                    yield str(value)
                yield from named(value)
        elif isinstance(node, list):
            for part in node:
                yield from named(part)

    try:
        content = json.loads((folder / "features.json").read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(folder, "features.json is no description") from error
    for name in named(content):
        if "." in name and not name.startswith("tensorflow_datasets."):
            raise _damaged(folder, f"features.json names the class {name}")


def class_names(folder: Path) -> tuple[str, ...]:
    """By label, as TFDS has them.

    Raises:
      DataError: their description is damaged.
    """
    import tensorflow_datasets as tfds

    check_classes(folder)
    try:
        features = tfds.builder_from_directory(str(folder)).info.features
        return tuple(features["label"].names)
    except Exception as error:  # whatever a damaged description provokes
        raise _damaged(folder, "features.json names no classes") from error


def rows(
    folder: Path,
    split: str,
    *,
    channels: int,
    size: int,
    label: Mapping[int, int] | None = None,
    domain: int = -1,
) -> Iterator[Row]:
    """The examples of a prepared data set, in its order.

    Args:
      folder: of the prepared version.
      split: TFDS's name of it.
      channels: 1 or 3, of the decoded images.
      size: side of the resized images in pixels; 0 keeps their own.
      label: our label for TFDS's; examples of other labels are left out, and not
        decoded. None keeps all, as they are.
      domain: of all examples.

    Raises:
      DataError: a record is damaged.
    """
    import tensorflow_datasets as tfds

    def image(record: Mapping[str, Any]) -> np.ndarray:
        return decode(record["image"], channels=channels, size=size)

    def keep(record: Mapping[str, Any]) -> bool:
        return label is None or int(record["label"]) in label

    check_classes(folder)
    decoders = {"image": tfds.decode.SkipDecoding()}  # to bytes: we decode them
    try:
        builder = tfds.builder_from_directory(str(folder))
        records = builder.as_data_source(split, decoders=decoders)
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(records), BLOCK):
                numbers = list(range(start, min(start + BLOCK, len(records))))
                block = zip(numbers, records.__getitems__(numbers), strict=True)
                wanted = [
                    (i, r) for i, r in block if label is None or r["label"] in label
                ]
                images = pool.map(image, (record for _, record in wanted))
                for (i, record), pixels in zip(wanted, images, strict=True):
                    own = int(record["label"])
                    number = own if label is None else label[own]
                    yield Row(pixels, number, f"{split}/{i}", domain)
    except Exception as error:  # the C++ reader raises several kinds
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise _damaged(
            folder, f"the {split} records cannot be read ({reason[0]})"
        ) from error
