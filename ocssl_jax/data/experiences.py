"""Which images make an experience: a benchmark is arrays of positions in a data set.

It is a pure function of labels, domains and `stream.seed`; `arrivals.py` says in which
order the images of a benchmark arrive.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ocssl_jax.data.orders import check_seed, irregular_sizes, torch_permutation
from ocssl_jax.data.splits import blurred, held_out

KINDS = ("class", "irregular", "blurred", "domain", "permuted", "iid")
MIXED = ("class", "domain", "permuted")  # kinds that an 'iid' stream may be made of
UNLABELLED_KINDS = ("domain", "iid")


class Benchmark(NamedTuple):
    """A stream as a list of experiences."""

    train: tuple[np.ndarray, ...]  # int32 positions in train_image, validation removed
    val: tuple[np.ndarray, ...]  # int32 positions in train_image
    test: tuple[np.ndarray, ...]  # int32 positions in test_image
    classes: tuple[tuple[int, ...], ...]  # of each experience; () where unlabelled
    kind: str
    # int32 positions in train_image, in no `train`: what arrives between experience i
    # and the next of a 'blurred' stream. No segments for the other kinds.
    segments: tuple[np.ndarray, ...] = ()


class Part(NamedTuple):
    """The images of one experience before any of them is held out."""

    train: np.ndarray  # positions in train_image, ascending
    test: np.ndarray  # positions in test_image, ascending
    classes: tuple[int, ...]
    key: tuple[int, ...]  # of its validation split, beside the seed and the class


def benchmark(
    train_label: np.ndarray,
    test_label: np.ndarray,
    *,
    kind: str,
    tasks: int,
    seed: int,
    val_ratio: float,
    order: tuple[int, ...] = (),
    classes: int = 0,
    train_domain: np.ndarray | None = None,
    test_domain: np.ndarray | None = None,
    blur: int = 0,
    iid_of: str = "class",
) -> Benchmark:
    """Splits a data set into experiences.

    Kinds: 'class', experiences of equally many classes; 'irregular', of randomly many;
    'blurred', as 'class', but images of both neighbours arrive mixed between two
    experiences; 'domain', one experience a domain, with all classes; 'permuted', the
    same of domains that are orders of the pixels (`data.permuted`); 'iid', the
    experiences of 'class', or of the kind `iid_of`, whose training images the schedule
    mixes: validation and test sets, and so an accuracy per task and the joint one, mean
    the same.

    Of each class (and domain, for 'domain') the first int(val_ratio n) images of a
    permutation that depends on the seed and that class alone are held out for
    validation, whatever the tasks are.

    Unlabelled data (any label -1) make 'iid' streams, the images cut evenly, and
    'domain' streams; both without classes, nothing held out.

    Args:
      train_label: [n] int, -1 where unlabelled.
      test_label: [m] int; m may be 0.
      kind: one of `KINDS`.
      tasks: number of experiences; that of the domains for 'domain'.
      seed: of class order, sizes and splits; in 0 .. 2^32 - 1.
      val_ratio: part of each class held out, in [0, 1).
      order: the class labels, or for 'domain' the domains, in the order of their
        arrival. Empty draws the classes' from the seed as the reference does, and
        keeps the domains' own.
      classes: use only the first so many classes of that order (for 'domain', of the
        drawn one), and no image of the others; 0 uses all.
      train_domain: [n] int from 0, for 'domain' and 'permuted' only.
      test_domain: [m] int, likewise.
      blur: for 'blurred' only, images that an experience gives to each of its ends.
      iid_of: for 'iid' only, one of `MIXED`.

    Returns:
      The benchmark; every training image of a class in use is in exactly one `train`,
      `val` or `segments` array.

    Raises:
      ValueError: the kind, tasks, ratio, seed or order does not fit these labels.
    """
    train_label, test_label = np.asarray(train_label), np.asarray(test_label)
    _check(train_label, test_label, kind, iid_of, tasks=tasks, val_ratio=val_ratio)
    check_seed(seed)
    labelled = train_label.min() >= 0
    cut = iid_of if kind == "iid" else kind
    by_domain = cut in ("domain", "permuted")
    used = (
        _used(train_label, seed, () if by_domain else order, classes)
        if labelled
        else None
    )
    if by_domain:
        own = order if cut == "domain" else ()
        domain = _domains(train_domain, test_domain, tasks=tasks, order=own)
        parts = list(_by_domain(train_label, test_label, *domain, used=used))
    elif used is None:
        parts = list(_even(len(train_label), len(test_label), tasks))
    else:
        groups = _groups(used, kind=kind, tasks=tasks, seed=seed)
        parts = list(_by_class(train_label, test_label, groups))
    ratio = val_ratio if labelled else 0.0
    splits = [held_out(train_label, p.train, ratio, seed, p.key) for p in parts]
    train: tuple[np.ndarray, ...] = tuple(train for _, train in splits)
    segments: tuple[np.ndarray, ...] = ()
    if kind == "blurred":
        train, segments = blurred(train_label, train, blur=blur, seed=seed)
    return Benchmark(
        train=train,
        val=tuple(val for val, _ in splits),
        test=tuple(part.test.astype(np.int32) for part in parts),
        classes=tuple(part.classes for part in parts),
        kind=kind,
        segments=segments,
    )


def _check(
    train_label: np.ndarray,
    test_label: np.ndarray,
    kind: str,
    iid_of: str,
    *,
    tasks: int,
    val_ratio: float,
) -> None:
    if kind not in KINDS:
        raise ValueError(f"unknown stream kind {kind!r}; known are {', '.join(KINDS)}")
    if train_label.ndim != 1 or test_label.ndim != 1 or not len(train_label):
        raise ValueError(
            "labels must be one row of integers, at least one for training; their "
            f"shapes are {train_label.shape} and {test_label.shape}"
        )
    if iid_of not in MIXED:
        raise ValueError(f"iid_of must be one of {', '.join(MIXED)}, not {iid_of!r}")
    if tasks < 1:
        raise ValueError(f"a stream has at least 1 task, not {tasks}")
    if not 0 <= val_ratio < 1:
        raise ValueError(f"val_ratio must be in [0, 1), not {val_ratio}")
    if train_label.min() < 0:
        if kind not in UNLABELLED_KINDS:
            raise ValueError(
                "unlabelled images make streams of the kinds "
                f"{' and '.join(UNLABELLED_KINDS)} only, not {kind!r}; labels are "
                "class folders"
            )
        return
    unknown = np.setdiff1d(test_label, train_label).tolist()
    if unknown:
        raise ValueError(f"test labels {unknown} never occur among the training labels")


def _used(
    train_label: np.ndarray, seed: int, order: tuple[int, ...], classes: int
) -> list[int]:
    """The classes in use, in the order of their arrival."""
    known = np.unique(train_label)
    n = len(known)
    if order and sorted(order) != known.tolist():
        raise ValueError(f"a class order must hold each of the {n} class labels once")
    if not 0 <= classes <= n:
        raise ValueError(f"classes must be 0 (all) or at most {n}, not {classes}")
    ordered = list(order) or known[torch_permutation(n, seed=seed)].tolist()
    return ordered[:classes] if classes else ordered


def _groups(
    ordered: list[int], *, kind: str, tasks: int, seed: int
) -> tuple[tuple[int, ...], ...]:
    """The classes of each experience, in the order of their arrival."""
    n = len(ordered)
    if kind == "irregular":
        sizes = irregular_sizes(n, tasks=tasks, seed=seed)
    elif n % tasks:
        allowed = ", ".join(str(t) for t in range(1, n + 1) if n % t == 0)
        raise ValueError(f"{n} classes make {allowed} equal tasks, not {tasks}")
    else:
        sizes = (n // tasks,) * tasks
    ends = np.cumsum(sizes).tolist()
    return tuple(tuple(ordered[e - s : e]) for s, e in zip(sizes, ends, strict=True))


def _by_class(
    train_label: np.ndarray, test_label: np.ndarray, groups: tuple[tuple[int, ...], ...]
) -> Iterator[Part]:
    for group in groups:
        here, there = np.isin(train_label, group), np.isin(test_label, group)
        yield Part(np.flatnonzero(here), np.flatnonzero(there), group, ())


def _domains(
    train_domain: np.ndarray | None,
    test_domain: np.ndarray | None,
    *,
    tasks: int,
    order: tuple[int, ...],
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """The domain of every image, and the domains in the order of their arrival."""
    if train_domain is None or test_domain is None:
        raise ValueError("a 'domain' stream needs a data set that has domains")
    n = 1 + max(int(np.max(d, initial=-1)) for d in (train_domain, test_domain))
    absent = np.setdiff1d(np.arange(n), train_domain).tolist()
    if absent:
        raise ValueError(f"the domains {absent} have no training images")
    if n != tasks:
        raise ValueError(f"{n} domains make {n} tasks, not {tasks}")
    if order and sorted(order) != list(range(n)):
        raise ValueError(f"a domain order must hold each of 0 .. {n - 1} once")
    return train_domain, test_domain, tuple(order) or tuple(range(n))


def _by_domain(
    train_label: np.ndarray,
    test_label: np.ndarray,
    train_domain: np.ndarray,
    test_domain: np.ndarray,
    order: tuple[int, ...],
    *,
    used: list[int] | None,
) -> Iterator[Part]:
    """Parts of each domain; of the classes in use, where there are labels."""
    in_train = np.isin(train_label, used) if used else np.ones(len(train_label), bool)
    in_test = np.isin(test_label, used) if used else np.ones(len(test_label), bool)
    for domain in order:
        yield Part(
            np.flatnonzero(in_train & (train_domain == domain)),
            np.flatnonzero(in_test & (test_domain == domain)),
            tuple(used or ()),
            (domain,),
        )


def _even(n: int, m: int, tasks: int) -> Iterator[Part]:
    """Unlabelled images cut into parts whose lengths differ by at most one."""
    if n < tasks:
        raise ValueError(f"{n} images do not make {tasks} experiences")
    cut = (np.array_split(np.arange(size), tasks) for size in (n, m))
    for train, test in zip(*cut, strict=True):
        yield Part(train, test, (), ())
