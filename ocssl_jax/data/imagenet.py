"""ImageNet, whole or a choice of its 1000 classes, at any size.

It is read from class folders, `<root>/{train,val}/<wnid>/*` without any devkit, or from
TFDS's `imagenet2012` (or `imagenet_resized/32x32`) prepared in `root`, in this order.
Classes are known by their WordNet ids (wnids), such as n01440764, and numbered in the
order of these, as torchvision does.

The K classes of ImageNet-K, and the order in which they arrive, are those of the
reference: `random.sample(range(1000), K)` after `random.seed(seed)`. Only their images
are decoded. A folder that holds exactly K classes is somebody's own ImageNet-K: all of
them are used, and their order is drawn as for every other data set.
"""

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ocssl_jax.data import folders, records
from ocssl_jax.data.cache import Source, fingerprint
from ocssl_jax.data.errors import DataError

CLASSES = 1000
SPLITS = {"train": "train", "test": "validation"}  # ours: TFDS's
PREPARED = ("imagenet2012", "imagenet_resized/32x32")


class Choice(NamedTuple):
    """The classes in use."""

    wnids: tuple[str, ...]  # by our label: in the order of their names
    order: tuple[int, ...]  # labels in the order of arrival; () to be drawn elsewhere


def choose(
    wnids: Sequence[str], k: int, *, seed: int, order: Sequence[int] = ()
) -> Choice:
    """The classes of ImageNet-k.

    Args:
      wnids: those at hand, in the order of their names.
      k: how many are wanted.
      seed: of the reference's choice, used if k < 1000 and all 1000 are at hand.
      order: instead of the seed's choice, k numbers of classes among the 1000.

    Raises:
      DataError: there are neither k nor 1000 classes.
      ValueError: the order does not hold k different numbers in 0 .. 999.
    """
    if len(wnids) == k:
        return Choice(tuple(wnids), ())
    if len(wnids) != CLASSES:
        wanted = f"the {CLASSES} classes of ImageNet" + (
            f" or {k} of them" if k < CLASSES else ""
        )
        raise DataError(f"imagenet{k} needs {wanted}; found {len(wnids)}")
    chosen = list(order) or random.Random(seed).sample(range(CLASSES), k)
    valid = len(chosen) == len(set(chosen)) == k
    if not (valid and set(chosen) <= set(range(CLASSES))):
        raise ValueError(
            f"order must hold {k} different numbers of ImageNet's classes, each in "
            f"0 .. {CLASSES - 1}"
        )
    kept = sorted(chosen)
    rank = {number: label for label, number in enumerate(kept)}
    return Choice(tuple(wnids[i] for i in kept), tuple(rank[i] for i in chosen))


def source(
    k: int,
    root: Path,
    *,
    channels: int,
    size: int,
    seed: int,
    order: Sequence[int] = (),
) -> tuple[Source, tuple[int, ...]]:
    """ImageNet-k, and the order of its classes if it comes with one.

    Args:
      k: number of classes, 1000 for all.
      root: holds the class folders or a prepared data set.
      channels: 1 or 3, of the decoded images.
      size: side of the resized images in pixels.
      seed: as `choose` has it.
      order: as `choose` has it.

    Raises:
      DataError: there is no ImageNet, or not these classes of it.
      ValueError: as `choose`.
    """
    if (root / "train").is_dir():
        return _from_folders(k, root, channels, size, seed, order)
    for name in PREPARED if size == 32 else PREPARED[:1]:
        if records.versions(name, root):
            return _from_records(name, k, root, channels, size, seed, order)
    raise DataError(
        f"no ImageNet in {root}: it should hold class folders, train/<wnid>/<picture> "
        "and val/<wnid>/<picture>, or imagenet2012 prepared by tensorflow-datasets as "
        "array_record"
    )


def _from_folders(
    k: int, root: Path, channels: int, size: int, seed: int, order: Sequence[int]
) -> tuple[Source, tuple[int, ...]]:
    found = _wnids(root, "train")
    if not set(_wnids(root, "val")) >= set(found):
        raise DataError(
            f"{root / 'val'} lacks class folders that {root / 'train'} has; the "
            "validation pictures must be sorted into val/<wnid>/"
        )
    choice = choose(found, k, seed=seed, order=order)
    files = {
        split: [
            file
            for wnid in choice.wnids
            for file in folders.listing(root, f"{folder}/{wnid}", wnid)[0]
        ]
        for split, folder in (("train", "train"), ("test", "val"))
    }
    if not files["train"]:
        raise DataError(folders.no_picture(root / "train"))
    source = folders.of_files(
        _name(k, choice),
        root,
        files,
        channels=channels,
        size=size,
        class_names=choice.wnids,
    )
    return source, choice.order


def _from_records(
    name: str,
    k: int,
    root: Path,
    channels: int,
    size: int,
    seed: int,
    order: Sequence[int],
) -> tuple[Source, tuple[int, ...]]:
    folder = records.prepared(name, root)
    names = records.class_names(folder)  # not in their order in imagenet_resized
    choice = choose(sorted(names), k, seed=seed, order=order)
    label = {names.index(wnid): i for i, wnid in enumerate(choice.wnids)}
    source = Source(
        name=f"{_name(k, choice)}-{size}",
        fingerprint=fingerprint(name, folder.name, records.facts(folder), choice.wnids),
        class_names=lambda: choice.wnids,
        rows=lambda split: records.rows(
            folder, SPLITS[split], channels=channels, size=size, label=label
        ),
    )
    return source, choice.order


def _name(k: int, choice: Choice) -> str:
    """Each choice of classes has a cache entry of its own."""
    return f"imagenet{k}-{fingerprint(choice.wnids)[:8]}"


def _wnids(root: Path, split: str) -> list[str]:
    if not (root / split).is_dir():
        return []
    names = folders.listing(root, split, folders.UNLABELLED)[1]
    return [name for name in names if re.fullmatch(r"n\d{8}", name)]
