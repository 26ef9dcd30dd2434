"""Data sets by name, as uint8 arrays with what is needed to normalise them.

Means and standard deviations of the CIFARs, ImageNet and SVHN are those of the OCSSL
suite's reference code; MNIST stays in [0, 1], as in MIR's; those of the digits are
computed from their training images.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ocssl_jax.data import folders, records
from ocssl_jax.data.cache import Source, decoded, user_place, writable
from ocssl_jax.data.errors import DataError


class Dataset(NamedTuple):
    """A data set in memory-mapped, read-only arrays; labels are for probes only."""

    name: str
    train_image: np.ndarray  # [n h w c] uint8
    train_label: np.ndarray  # [n] int32, -1 where unlabelled
    test_image: np.ndarray  # [m h w c] uint8; m is 0 if there is no such split
    test_label: np.ndarray  # [m] int32
    class_names: tuple[str, ...]  # by label
    mean: tuple[float, ...]  # by channel, of pixels in [0, 1]
    std: tuple[float, ...]
    skipped: tuple[str, ...]  # picture files that could not be read


class Place(NamedTuple):
    """A source and the folder beside which its decoded arrays are kept."""

    source: Source
    data_dir: Path


class Spec(NamedTuple):
    """One row of the registry."""

    find: Callable[..., Place]  # (name, data_dir, *, channels, size), fails at once
    mean: tuple[float, ...]
    std: tuple[float, ...]


def _records(name: str, data_dir: Path, *, channels: int, size: int) -> Place:
    source = records.source(name, data_dir, channels=channels, size=size)
    return Place(source, data_dir)


def _digits(name: str, data_dir: Path, *, channels: int, size: int) -> Place:
    del name
    if not records.versions("ocssl_digits", data_dir):
        data_dir = data_dir if writable(data_dir) else user_place(data_dir)
        if not records.versions("ocssl_digits", data_dir):
            # Imported here because TFDS takes most of a second.
            from ocssl_jax.data.digits import prepare_digits

            prepare_digits(data_dir)
    return _records("ocssl_digits", data_dir, channels=channels, size=size)


def _folder(name: str, data_dir: Path, *, channels: int, size: int) -> Place:
    del name
    return Place(folders.source(data_dir, channels=channels, size=size), data_dir)


DATASETS = {
    "digits": Spec(_digits, (0.3055,), (0.3759,)),
    "cifar10": Spec(_records, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": Spec(_records, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "mnist": Spec(_records, (0.0,), (1.0,)),
    "svhn_cropped": Spec(_records, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "folder": Spec(_folder, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def load(name: str, *, data_dir: str | Path, image_size: int = 0) -> Dataset:
    """Opens a data set, decoding it into the uint8 cache the first time.

    Args:
      name: a key of `DATASETS`.
      data_dir: TFDS's data folder; for 'folder', the folder that holds `train`.
        `digits` are prepared there the first time.
      image_size: side in pixels to which images are resized, ignoring their aspect
        ratio; 0 keeps the data set's own size, which 'folder' does not have.

    Returns:
      The data set. A damaged picture file is left out and named in `skipped`.

    Raises:
      DataError: the name is unknown, the data are missing (the message has the command
        that gets them) or unreadable, or a file of the cache is damaged.
      ValueError: the image size is negative, or missing for 'folder'.
    """
    if name not in DATASETS:
        raise DataError(f"unknown data set {name!r}; known are {', '.join(DATASETS)}")
    if Path(data_dir).exists() and not Path(data_dir).is_dir():
        raise DataError(f"data_dir {data_dir} is no folder")
    if image_size < 0:
        raise ValueError(f"image_size must be 0 or a side in pixels, not {image_size}")
    spec = DATASETS[name]
    place = spec.find(
        name, Path(data_dir).expanduser(), channels=len(spec.mean), size=image_size
    )
    data = decoded(place.source, data_dir=place.data_dir)
    return Dataset(
        name=name,
        **data.arrays,
        class_names=data.class_names,
        mean=spec.mean,
        std=spec.std,
        skipped=data.skipped,
    )
