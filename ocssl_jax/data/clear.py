"""CLEAR-10 and CLEAR-100: photographs of 2004 to 2014 in yearly buckets.

Lin et al., "The CLEAR Benchmark: Continual LEArning on Real-World Imagery", NeurIPS
2021 (Datasets and Benchmarks). The released archives, `clear100-train-image-only.zip`
(or `clear100-train.zip`) and `clear100-test.zip`, unpacked in one folder give

    <root>/{train_image_only | train, test}/
        class_names.txt                      one class a line
        labeled_metadata.json                {bucket: {class: metadata file}}
        labeled_metadata/<bucket>/<class>.json    {picture id: {"IMG_PATH": file, ...}}
        labeled_images/<bucket>/<class>/<picture>

with files named relative to their split's folder. Buckets are domains, in the order of
their numbers. Those that `labeled_metadata.json` lists are used: 0 to 10 of CLEAR-100;
of CLEAR-10 bucket 0 has no labels. Pictures keep their aspect ratio: the shorter side
is resized and the middle cut out.

Two protocols. 'iid', the shipped one: a bucket's training pictures, and its own test
pictures. 'streaming': all pictures of bucket i are for training, all of bucket i + 1
for testing, so experience i is judged on the near future, and the last bucket is only
tested on.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ocssl_jax.data import folders
from ocssl_jax.data.cache import Decoded, Source
from ocssl_jax.data.errors import DataError

TRAIN = ("train_image_only", "train")  # the folder's name depends on the archive


def source(
    name: str, root: Path, *, channels: int, size: int, streaming: bool
) -> Source:
    """CLEAR in its released layout.

    Args:
      name: 'clear10' or 'clear100', of its archives.
      root: holds the unpacked archives, itself or in a folder `name`.
      channels: 1 or 3, of the decoded images.
      size: side of the resized images in pixels.
      streaming: all pictures as 'train', bucket by bucket, for `next_bucket`; else
        the splits as shipped.

    Raises:
      DataError: a folder or file of the layout is missing or damaged.
    """
    train, test = _split_folders(name, root)
    names = tuple(filter(None, _text(train / "class_names.txt").splitlines()))
    listed = {folder: _pictures(folder, names) for folder in (train, test)}
    buckets = sorted(listed[train], key=int)
    if set(buckets) != set(listed[test]):
        raise DataError(
            f"{train} and {test} must hold the same buckets; they have "
            f"{', '.join(buckets)} and {', '.join(sorted(listed[test], key=int))}"
        )

    def files(*from_folders: Path) -> list[folders.File]:
        return [
            folders.picture(
                train.parent, f"{folder.name}/{path}", category, domain=number
            )
            for number, bucket in enumerate(buckets)
            for folder in from_folders
            for path, category in listed[folder][bucket]
        ]

    splits = {
        "train": files(train, test) if streaming else files(train),
        "test": [] if streaming else files(test),
    }
    return folders.of_files(
        f"{name}_streaming" if streaming else name,
        train.parent,
        splits,
        channels=channels,
        size=size,
        class_names=names,
        domain_names=tuple(buckets),
        crop=True,
    )


def next_bucket(data: Decoded) -> Decoded:
    """The streaming protocol from images that lie bucket by bucket in 'train'.

    Both splits are views of the same file, so that nothing is stored twice.
    """
    image, label, domain = (
        data.arrays[f"train_{field}"] for field in ("image", "label", "domain")
    )
    last = int(domain.max())
    end, start = np.searchsorted(domain, (last, 1))
    arrays = {
        "train_image": image[:end],
        "train_label": label[:end],
        "train_domain": domain[:end],
        "test_image": image[start:],
        "test_label": label[start:],
        "test_domain": domain[start:] - 1,
    }
    return data._replace(arrays=arrays, domain_names=data.domain_names[:-1])


def _split_folders(name: str, root: Path) -> tuple[Path, Path]:
    for place in (root / name, root):
        for folder in TRAIN:
            if (place / folder / "labeled_metadata.json").is_file():
                return place / folder, place / "test"
    raise DataError(
        f"no {name} in {root / name}: unpack {name}-train-image-only.zip and "
        f"{name}-test.zip there, so that it holds train_image_only/"
        "labeled_metadata.json and test/labeled_metadata.json"
    )


def _pictures(folder: Path, names: tuple[str, ...]) -> dict[str, list[tuple[str, str]]]:
    """Bucket -> its pictures, each a path below `folder` and its class."""

    def of_bucket(classes: dict[str, str]) -> Iterator[tuple[str, str]]:
        for name in names:
            for about in _json(folder / classes[name]).values():
                yield about["IMG_PATH"], name

    file = folder / "labeled_metadata.json"
    try:
        found = {
            bucket: list(of_bucket(classes))
            for bucket, classes in _json(file).items()
            if bucket.isdecimal()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file}, or a file it names, is not CLEAR's ({error!r}); unpack the "
            "archive again"
        ) from error
    if len(found) < 2:
        raise DataError(f"{file} must list at least 2 buckets, has {len(found)}")
    return found


def _json(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(_text(file))
    except json.JSONDecodeError as error:
        raise DataError(f"{file} is damaged; unpack the archive again") from error
    return content


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read; unpack the archive again") from error
