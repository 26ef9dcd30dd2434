"""Blurred boundaries: the reference's counts, and what arrives between experiences."""

import numpy as np
import pytest

from ocssl_jax.data import benchmark, schedule

LABEL = np.random.default_rng(0).permutation(np.repeat(np.arange(100), 500))
TEST = np.repeat(np.arange(100), 100)


def cifar(tasks=20, kind="blurred", seed=42, blur=100, val_ratio=0.1):
    return benchmark(
        LABEL, TEST, kind=kind, tasks=tasks, seed=seed, val_ratio=val_ratio, blur=blur
    )


def small(sizes, blur, tasks):
    """Labels 0, 1, ... with so many images each, one or more classes a task."""
    label = np.repeat(np.arange(len(sizes)), sizes)
    return label, benchmark(
        label,
        np.zeros(0, int),
        kind="blurred",
        tasks=tasks,
        seed=0,
        val_ratio=0,
        order=tuple(range(len(sizes))),
        blur=blur,
    )


@pytest.mark.parametrize("tasks", [20, 50, 100])
def test_each_side_of_a_boundary_gives_100_images(tasks):
    """int(100 / (450 c) * 450) = int(100 / c) images of each of a task's c classes."""
    bench = cifar(tasks)
    per_class = 100 // (100 // tasks)
    given = per_class * (100 // tasks)
    assert given == 100
    assert [len(s) for s in bench.segments] == [200] * (tasks - 1)
    full = 45_000 // tasks
    inner = [full - 200] * (tasks - 2)
    assert [len(t) for t in bench.train] == [full - 100, *inner, full - 100]
    for i, segment in enumerate(bench.segments):
        found, counts = np.unique(LABEL[segment], return_counts=True)
        both = bench.classes[i] + bench.classes[i + 1]
        assert found.tolist() == sorted(both)
        assert (counts == per_class).all()


def test_blurring_takes_from_the_training_images_alone():
    bench, regular = cifar(), cifar(kind="class")
    for name in ("val", "test", "classes"):
        pairs = zip(getattr(bench, name), getattr(regular, name), strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)
    for i, (blurred, whole) in enumerate(zip(bench.train, regular.train, strict=True)):
        around = np.concatenate(bench.segments[max(i - 1, 0) : i + 1])
        taken = np.intersect1d(around, whole)
        assert np.array_equal(np.sort(np.concatenate([blurred, taken])), whole)


def test_counts_are_rounded_down_for_each_class():
    label, bench = small([10, 20, 30, 30], blur=7, tasks=2)
    # Task 0 has 30 images: int(7 / 30 * 10) = 2, int(7 / 30 * 20) = 4; task 1 has 60:
    # int(7 / 60 * 30) = 3 twice.
    assert np.bincount(label[bench.segments[0]]).tolist() == [2, 4, 3, 3]
    assert [len(t) for t in bench.train] == [24, 54]


def test_segments_arrive_before_their_experience_with_a_boundary_of_their_own():
    bench = cifar()
    plan = schedule(bench, key_seed=3, batch_size=10)
    assert np.array_equal(
        np.sort(plan.id[plan.mask]), np.sort(np.concatenate(cifar(kind="class").train))
    )
    assert plan.boundary.sum() == 20 + 19
    starts = np.flatnonzero(plan.boundary)
    # 215 batches, then 20 of a segment, 205 of an inner experience, 20 ...
    assert starts[:6].tolist() == [0, 215, 235, 440, 460, 665]
    assert plan.experience[[214, 215, 234, 235, 439, 440]].tolist() == [
        0,
        1,
        1,
        1,
        1,
        2,
    ]
    between = plan.id[215:235]
    assert np.array_equal(np.sort(between.ravel()), bench.segments[0])
    # Mixed: the order of a segment is not that of its two sides.
    side = np.isin(LABEL[between.ravel()], bench.classes[0])
    assert 30 < side[:100].sum() < 70
    shuffled = np.random.default_rng([3, 7]).permutation(bench.train[7])
    assert np.array_equal(plan.id[(plan.experience == 7)][20:].ravel(), shuffled)


def test_seeds_choose_other_images():
    one, other = cifar(seed=42), cifar(seed=43)
    assert not np.array_equal(one.segments[0], other.segments[0])
    assert np.array_equal(one.segments[0], cifar(seed=42).segments[0])


def test_one_task_has_no_boundary():
    _, bench = small([5, 5], blur=4, tasks=1)
    assert bench.segments == ()
    assert len(bench.train[0]) == 10


@pytest.mark.parametrize(
    ("sizes", "blur", "tasks", "words"),
    [
        ([8, 8, 8], 4, 3, "experience 1 has 8 images: too few to give 4"),
        ([9, 9], 9, 2, "experience 0 has 9 images: too few"),
        ([3] * 8, 2, 2, "a blur of 2 is less than one image of each class"),
        ([9, 9], 0, 2, "blur of at least 1, not 0"),
    ],
)
def test_what_cannot_be_blurred_is_refused(sizes, blur, tasks, words):
    with pytest.raises(ValueError, match=words):
        small(sizes, blur, tasks)
