"""What arrives when: experiences, their splits, and the order of the batches.

A benchmark is index arrays, a schedule is the order in which they arrive. Both are pure
functions of their arguments, so a run resumes from its step number alone.
"""

from typing import NamedTuple

import numpy as np

from ocssl_jax.data.orders import check_seed, irregular_sizes, torch_permutation

KINDS = ("class", "irregular", "iid")
VALIDATION, IID = 0, 1  # separate random streams of one seed


class Benchmark(NamedTuple):
    """A stream as a list of experiences."""

    train: tuple[np.ndarray, ...]  # int32 positions in train_image, validation removed
    val: tuple[np.ndarray, ...]  # int32 positions in train_image
    test: tuple[np.ndarray, ...]  # int32 positions in test_image
    classes: tuple[tuple[int, ...], ...]  # of each test (and, but for iid, train) set
    kind: str


class Schedule(NamedTuple):
    """The batches in the order of their arrival."""

    id: np.ndarray  # [steps b] int32, positions in train_image
    mask: np.ndarray  # [steps b] bool, False on rows that fill up a last, short batch
    experience: np.ndarray  # [steps] int32
    boundary: np.ndarray  # [steps] bool, the first batch of an experience


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
) -> Benchmark:
    """Splits a data set into experiences.

    Kinds: 'class', experiences of equally many classes; 'irregular', of randomly many;
    'iid', all training images in one shuffled stream that is cut into experiences of
    equal length, so that probes happen as often. Its validation and test sets stay
    those of 'class': an accuracy per task, and the joint one over all of them, mean the
    same for every kind.

    Of each class the first int(val_ratio n) images of a permutation that depends on the
    seed and the class alone are held out for validation, whatever the tasks are.

    Unlabelled data (any label -1) make an 'iid' stream of all training images, nothing
    held out, the test images cut evenly and without classes.

    Args:
      train_label: [n] int, -1 where unlabelled.
      test_label: [m] int; m may be 0.
      kind: one of `KINDS`.
      tasks: number of experiences.
      seed: of class order, sizes, split and shuffling; in 0 .. 2^32 - 1.
      val_ratio: part of each class held out, in [0, 1).
      order: the class labels in the order of their arrival; empty draws it from the
        seed as the reference does.
      classes: use only the first so many of that order, and no image of the others; 0
        uses all.

    Returns:
      The benchmark; every training image of a class in use is in exactly one `train` or
      `val` array.

    Raises:
      ValueError: the kind, tasks, ratio, seed or order does not fit these labels.
    """
    train_label, test_label = np.asarray(train_label), np.asarray(test_label)
    _check(train_label, test_label, kind=kind, tasks=tasks, val_ratio=val_ratio)
    check_seed(seed)
    if train_label.min() < 0:
        return _unlabelled(len(train_label), len(test_label), kind, tasks, seed)
    ordered = _order(train_label, seed=seed, order=order, classes=classes)
    parts = _classes(ordered, kind=kind, tasks=tasks, seed=seed)
    splits = [_split(train_label, c, val_ratio=val_ratio, seed=seed) for c in parts]
    train = tuple(train for _, train in splits)
    return Benchmark(
        train=_shuffled_parts(np.concatenate(train), tasks, seed)
        if kind == "iid"
        else train,
        val=tuple(val for val, _ in splits),
        test=tuple(_positions(np.isin(test_label, c)) for c in parts),
        classes=parts,
        kind=kind,
    )


def _check(
    train_label: np.ndarray,
    test_label: np.ndarray,
    *,
    kind: str,
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
    if tasks < 1:
        raise ValueError(f"a stream has at least 1 task, not {tasks}")
    if not 0 <= val_ratio < 1:
        raise ValueError(f"val_ratio must be in [0, 1), not {val_ratio}")
    if train_label.min() < 0:
        if kind != "iid":
            raise ValueError(f"unlabelled images make 'iid' streams only, not {kind!r}")
        return
    unknown = np.setdiff1d(test_label, train_label).tolist()
    if unknown:
        raise ValueError(f"test labels {unknown} never occur among the training labels")


def _order(
    train_label: np.ndarray, *, seed: int, order: tuple[int, ...], classes: int
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


def _classes(
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


def _positions(chosen: np.ndarray) -> np.ndarray:
    return np.flatnonzero(chosen).astype(np.int32)


def _generator(seed: int, *purpose: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=purpose))


def _split(
    train_label: np.ndarray, classes: tuple[int, ...], *, val_ratio: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of validation and training images of these classes, each ascending."""
    held_out = np.zeros(len(train_label), bool)
    for label in classes:
        members = np.flatnonzero(train_label == label)
        shuffled = _generator(seed, VALIDATION, label).permutation(members)
        held_out[shuffled[: int(val_ratio * len(members))]] = True
    here = np.isin(train_label, classes)
    return _positions(here & held_out), _positions(here & ~held_out)


def _shuffled_parts(pool: np.ndarray, tasks: int, seed: int) -> tuple[np.ndarray, ...]:
    """Random parts of `pool` whose lengths differ by at most one, each ascending."""
    if len(pool) < tasks:
        raise ValueError(f"{len(pool)} images do not make {tasks} experiences")
    parts = np.array_split(_generator(seed, IID).permutation(pool), tasks)
    return tuple(np.sort(part).astype(np.int32) for part in parts)


def _unlabelled(n: int, m: int, kind: str, tasks: int, seed: int) -> Benchmark:
    none = np.zeros(0, np.int32)
    return Benchmark(
        train=_shuffled_parts(np.arange(n), tasks, seed),
        val=(none,) * tasks,
        test=tuple(t.astype(np.int32) for t in np.array_split(np.arange(m), tasks)),
        classes=((),) * tasks,
        kind=kind,
    )


def schedule(
    bench: Benchmark, *, key_seed: int, batch_size: int, limit: int = 0
) -> Schedule:
    """The order of arrival: every training image exactly once.

    Each experience is shuffled by `default_rng([key_seed, experience])` and cut into as
    few batches as hold it, their sizes differing by at most one: a last batch of a
    single image would ruin the running statistics just before the probe. Batches below
    `batch_size` are filled up with masked rows.

    Args:
      bench: the experiences.
      key_seed: of the order, at least 0; one per run seed.
      batch_size: rows of a batch.
      limit: keeps only so many batches of the stream; 0 keeps them all.

    Raises:
      ValueError: a number is out of its range.
    """
    if key_seed < 0 or batch_size < 1 or limit < 0:
        raise ValueError(
            "key_seed and limit must be at least 0 and batch_size at least 1, not "
            f"{key_seed}, {limit} and {batch_size}"
        )
    ids, mask, experience = [], [], []
    for number, images in enumerate(bench.train):
        order = np.random.default_rng([key_seed, number]).permutation(images)
        steps = -(-len(order) // batch_size)
        parts = np.array_split(order, steps) if steps else []
        ids += [np.resize(part, batch_size) for part in parts]
        mask += [np.arange(batch_size) < len(part) for part in parts]
        experience.append(np.full(steps, number, np.int32))
    which = np.concatenate(experience)
    whole = Schedule(
        id=np.stack(ids).astype(np.int32),
        mask=np.stack(mask),
        experience=which,
        boundary=np.diff(which, prepend=-1) > 0,
    )
    return whole if not limit else Schedule(*(field[:limit] for field in whole))
