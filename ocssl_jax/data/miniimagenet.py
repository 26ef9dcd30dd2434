"""MiniImagenet: 100 classes of 600 images at 84 x 84 (Vinyals et al. 2016).

Few-shot learning keeps 64 classes for training, 16 for validation and 20 for testing;
continual learning takes all of them, in this order, and the first 80 % of the images of
each as training images, the others as test images. Read from, whichever is there:

* `train.csv`, `val.csv`, `test.csv` (`filename,label`) beside `images/`, the lists of
  Ravi and Larochelle (2017); classes in the order in which the lists name them;
* `train/<class>/*`, `val/<class>/*`, `test/<class>/*`, by name;
* `mini-imagenet-cache-{train,val,test}.pkl`, of `image_data` and `class_dict`, which
  are read without being unpickled (`pickled_arrays`).

Pictures are resized to 84 pixels on their shorter side and the middle is cut out; those
of pickles, which have that size, would be resized as a whole.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ocssl_jax.data import folders, pickled_arrays
from ocssl_jax.data.cache import Row, Source, fingerprint
from ocssl_jax.data.errors import DataError
from ocssl_jax.data.folders import File

NAME = "miniimagenet"
SPLITS = ("train", "val", "test")
TRAINED = 0.8  # of each class's images, the first ones
PICKLE = "mini-imagenet-cache-{}.pkl"
Classes = dict[str, list[File]]


class Pickled(NamedTuple):
    """A class within a pickle."""

    name: str
    images: np.ndarray  # [n h w 3] uint8


def source(root: Path, *, channels: int, size: int) -> Source:
    """The data set in `root`.

    Args:
      root: holds one of the layouts.
      channels: of the decoded images.
      size: side of the images in pixels.

    Raises:
      DataError: if none of the layouts is there, or a part of it is missing.
    """
    pickles = [root / PICKLE.format(split) for split in SPLITS]
    if all(path.is_file() for path in pickles):
        return _of_pickles(pickles, channels=channels, size=size)
    lists = [root / f"{split}.csv" for split in SPLITS]
    if all(path.is_file() for path in lists):
        classes = _listed(root, lists)
    elif all((root / split).is_dir() for split in SPLITS):
        classes = _in_folders(root)
    else:
        raise DataError(
            f"no {NAME} in {root}: it holds neither train.csv, val.csv and test.csv "
            f"beside images/, nor the folders train/, val/ and test/ of class folders, "
            f"nor {PICKLE.format('{train,val,test}')}"
        )
    if not any(classes.values()):
        raise DataError(folders.no_picture(root))
    parts = {name: _cut(len(files)) for name, files in classes.items()}
    return folders.of_files(
        NAME,
        root,
        {
            "train": [f for name, fs in classes.items() for f in fs[: parts[name]]],
            "test": [f for name, fs in classes.items() for f in fs[parts[name] :]],
        },
        channels=channels,
        size=size,
        class_names=tuple(classes),
        crop=True,
    )


def _cut(images: int) -> int:
    """How many of a class's images are for training."""
    return int(TRAINED * images)


def _listed(root: Path, lists: list[Path]) -> Classes:
    classes: Classes = {}
    for path in lists:
        for row in _rows(path):
            name, category = row.get("filename"), row.get("label")
            if not name or not category or ".." in Path(name).parts:
                raise DataError(f"{path} is no list of filename,label: {row}")
            picture = folders.picture(root, f"images/{name}", category)
            classes.setdefault(category, []).append(picture)
    return classes


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no list of filename,label ({error})") from error


def _in_folders(root: Path) -> Classes:
    classes: Classes = {}
    for split in SPLITS:
        for name in folders.listing(root, split, folders.UNLABELLED)[1]:
            files = folders.listing(root, f"{split}/{name}", name)[0]
            classes.setdefault(name, []).extend(files)
    return classes


def _of_pickles(paths: list[Path], *, channels: int, size: int) -> Source:
    facts = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths
    ]
    names: list[str] = []

    def rows(split: str) -> Iterator[Row]:
        names.clear()
        for path in paths:
            for found in _classes(path):
                label, cut = len(names), _cut(len(found.images))
                names.append(found.name)
                own = slice(cut) if split == "train" else slice(cut, None)
                for i, image in enumerate(found.images[own]):
                    pixels = _sized(image, channels=channels, size=size)
                    yield Row(pixels, label, f"{path.name}: {found.name} {i}")

    return Source(
        name=f"{NAME}-pickles-{size}",
        fingerprint=fingerprint(channels, facts),
        class_names=lambda: tuple(names),
        rows=rows,
        bytes=sum(path.stat().st_size for path in paths),
    )


def _classes(path: Path) -> Iterator[Pickled]:
    held = pickled_arrays.read(path)
    try:
        images, classes = held["image_data"], held["class_dict"]
        whole = images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3
        if not whole:
            raise ValueError(f"images are {images.shape} {images.dtype}")
        for name, rows in classes.items():
            yield Pickled(str(name), images[np.asarray(rows, np.int64)])
    except (TypeError, KeyError, IndexError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is no pickle of {NAME} ({error})") from error


def _sized(image: np.ndarray, *, channels: int, size: int) -> np.ndarray:
    if image.shape == (size, size, channels):
        return image
    grey = Image.fromarray(image).convert({1: "L", 3: "RGB"}[channels])
    resized = grey.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.uint8).reshape(size, size, channels)
