"""Data sets by name, as uint8 arrays with what is needed to normalise them.

Means and standard deviations of the CIFARs, ImageNet, CLEAR, SVHN and the cars are
those of the OCSSL suite's reference code; MNIST stays in [0, 1], as in MIR's; those of
the digits are computed from their training images. Folders and DomainNet have
ImageNet's.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ocssl_jax.data import (
    clear,
    domain_folders,
    domainnet,
    folders,
    imagenet,
    miniimagenet,
    records,
)
from ocssl_jax.data.cache import (
    SPLITS,
    Decoded,
    Source,
    decoded,
    user_place,
    writable,
)
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
    order: tuple[int, ...] = ()  # class order it comes with; () to be drawn
    train_domain: np.ndarray | None = None  # [n] int32, None without domains
    test_domain: np.ndarray | None = None  # [m] int32
    domain_names: tuple[str, ...] = ()  # by domain
    checksums: tuple[int, ...] = ()  # of what was decoded: images, labels, domains
    strays: tuple[str, ...] = ()  # unlabelled picture files where others have classes


class Query(NamedTuple):
    """What a user asked for, with the registry's answers where there were none."""

    data_dir: Path
    channels: int
    size: int  # of the resized images; 0: their own
    seed: int  # of a choice of classes
    order: tuple[int, ...]  # that choice, () to draw it


class Place(NamedTuple):
    """A source and the folder beside which its decoded arrays are kept."""

    source: Source
    data_dir: Path
    order: tuple[int, ...] = ()  # of the classes, where the source has one
    view: Callable[[Decoded], Decoded] | None = None  # of what was decoded


class Spec(NamedTuple):
    """One row of the registry."""

    find: Callable[[Query], Place]  # fails at once if there is nothing
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int = 0  # side of the images unless another is asked for; 0: their own
    domains: bool = False
    streaming: bool = False  # the test images of a domain are trained on in the next


def _prepared(name: str) -> Callable[[Query], Place]:
    def find(q: Query) -> Place:
        source = records.source(name, q.data_dir, channels=q.channels, size=q.size)
        return Place(source, q.data_dir)

    return find


def _digits(q: Query) -> Place:
    data_dir = q.data_dir
    if not records.versions("ocssl_digits", data_dir):
        data_dir = data_dir if writable(data_dir) else user_place(data_dir)
        if not records.versions("ocssl_digits", data_dir):
            # Imported here because TFDS takes most of a second.
            from ocssl_jax.data.digits import prepare_digits

            prepare_digits(data_dir)
    return _prepared("ocssl_digits")(q._replace(data_dir=data_dir))


def _imagenet(k: int) -> Callable[[Query], Place]:
    def find(q: Query) -> Place:
        source, order = imagenet.source(
            k, q.data_dir, channels=q.channels, size=q.size, seed=q.seed, order=q.order
        )
        return Place(source, q.data_dir, order)

    return find


def _clear(name: str, *, streaming: bool) -> Callable[[Query], Place]:
    def find(q: Query) -> Place:
        source = clear.source(
            name, q.data_dir, channels=q.channels, size=q.size, streaming=streaming
        )
        view = clear.next_bucket if streaming else None
        return Place(source, q.data_dir, view=view)

    return find


def _pictures(source: Callable[..., Source]) -> Callable[[Query], Place]:
    return lambda q: Place(
        source(q.data_dir, channels=q.channels, size=q.size), q.data_dir
    )


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CARS = (0.4707, 0.4602, 0.4550), (0.2638, 0.2629, 0.2678)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

DATASETS = {
    "digits": Spec(_digits, (0.3055,), (0.3759,)),
    "cifar10": Spec(
        _prepared("cifar10"), (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    ),
    "cifar100": Spec(
        _prepared("cifar100"), (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    ),
    "mnist": Spec(_prepared("mnist"), (0.0,), (1.0,)),
    "svhn": Spec(_prepared("svhn_cropped"), *HALF),
    "svhn_cropped": Spec(_prepared("svhn_cropped"), *HALF),
    "cars196": Spec(_prepared("cars196"), *CARS, size=224),
    **{
        name: Spec(_imagenet(k), *IMAGENET, size=size)
        for name, k, size in (
            ("imagenet", 1000, 224),
            ("imagenet30", 30, 224),
            ("imagenet100", 100, 224),
            ("imagenet200", 200, 224),
            ("imagenet32", 1000, 32),
            ("imagenet32-100", 100, 32),
            ("imagenet32-200", 200, 32),
        )
    },
    **{
        name + ("_streaming" if streaming else ""): Spec(
            _clear(name, streaming=streaming),
            *IMAGENET,
            size=224,
            domains=True,
            streaming=streaming,
        )
        for name in ("clear10", "clear100")
        for streaming in (False, True)
    },
    "domainnet": Spec(_pictures(domainnet.source), *IMAGENET, size=224, domains=True),
    "miniimagenet": Spec(_pictures(miniimagenet.source), *IMAGENET, size=84),
    "folder": Spec(_pictures(folders.source), *IMAGENET),
    "domain_folder": Spec(_pictures(domain_folders.source), *IMAGENET, domains=True),
}


def load(
    name: str,
    *,
    data_dir: str | Path,
    image_size: int = 0,
    seed: int = 42,
    order: tuple[int, ...] = (),
) -> Dataset:
    """Opens a data set, decoding it into the uint8 cache the first time.

    Args:
      name: a key of `DATASETS`.
      data_dir: TFDS's data folder; for data sets of pictures the folder that their
        layout starts from. `digits` are prepared there the first time.
      image_size: side in pixels to which images are resized, ignoring their aspect
        ratio (but CLEAR's); 0 keeps the data set's own size or takes the published one.
        'folder' and 'domain_folder' have neither.
      seed: chooses the classes of ImageNet-30, 100 and 200; all others ignore it.
      order: those classes by their numbers instead; all others ignore it.

    Returns:
      The data set. A damaged picture file is left out and named in `skipped`; one
      line on stderr says how many there are.

    Raises:
      DataError: the name is unknown, the data are missing (the message has the command
        that gets them) or unreadable, or a file of the cache is damaged.
      ValueError: the image size is negative, or missing where it is needed; or the
        order names other classes than there are.
    """
    if name not in DATASETS:
        raise DataError(f"unknown data set {name!r}; known are {', '.join(DATASETS)}")
    if os.path.exists(data_dir) and not os.path.isdir(data_dir):
        raise DataError(f"data_dir {data_dir} is no folder")
    if image_size < 0:
        raise ValueError(f"image_size must be 0 or a side in pixels, not {image_size}")
    spec = DATASETS[name]
    size, channels = image_size or spec.size, len(spec.mean)
    query = Query(Path(data_dir).expanduser(), channels, size, seed, order)
    try:
        place = spec.find(query)
        data = decoded(place.source, data_dir=place.data_dir)
    except OSError as error:  # such as folders that may not be looked into
        what = error.filename or data_dir
        raise DataError(f"{what}: cannot be read ({error.strerror})") from error
    data = place.view(data) if place.view else data
    if data.skipped:
        read = sum(len(data.arrays[f"{split}_label"]) for split in SPLITS)
        _tell_skipped(name, place.data_dir, read, data.skipped)
    arrays = dict(data.arrays)
    if not data.domain_names:
        arrays.pop("train_domain"), arrays.pop("test_domain")
    return Dataset(
        name=name,
        **arrays,
        class_names=data.class_names,
        mean=spec.mean,
        std=spec.std,
        skipped=data.skipped,
        order=place.order,
        domain_names=data.domain_names,
        checksums=data.checksums,
        strays=place.source.strays,
    )


@cache  # once a process, however often the data set is opened
def _tell_skipped(name: str, folder: Path, read: int, skipped: tuple[str, ...]) -> None:
    print(folders.skipped(f"{name} in {folder}", read, skipped), file=sys.stderr)


def fingerprint(dataset: Dataset) -> str:
    """A short hash of what a data set holds: the same wherever it lies."""
    names = dataset.name, dataset.class_names, dataset.domain_names
    sizes = dataset.train_image.shape, dataset.test_image.shape
    text = json.dumps([*names, *sizes, dataset.checksums])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
