"""Streams against published vectors, counts and the partition they promise."""

import numpy as np
import pytest

from ocssl_jax.data import Benchmark, benchmark, schedule
from ocssl_jax.data.orders import irregular_sizes, torch_permutation

# Printed by PyTorch: torch.manual_seed(seed); torch.randperm(n).
ORDER_42_OF_10 = [2, 6, 1, 8, 4, 5, 0, 9, 3, 7]
ORDER_42_STARTS = [42, 96, 62, 98, 46, 95, 60, 24, 78, 16, 68, 70, 11, 13, 97, 52, 99]
ORDER_42_ENDS = [39, 25, 92, 49, 28]
ORDER_5_STARTS = [11, 22, 39, 23, 42, 30, 78, 81, 64, 20, 29, 79, 15, 69, 86, 63, 55]
SIZES = {  # of the suite's irregular streams: 100 classes, 20 tasks
    41: (9, 7, 2, 8, 8, 3, 5, 5, 2, 5, 6, 7, 2, 3, 5, 8, 7, 1, 6, 1),
    42: (7, 4, 8, 7, 2, 9, 7, 7, 2, 3, 3, 8, 5, 7, 3, 1, 4, 1, 7, 5),
    43: (7, 2, 2, 9, 7, 3, 8, 2, 4, 4, 9, 9, 2, 2, 4, 1, 3, 9, 8, 5),
}
SIZES_42_OF_50_TASKS = (3, 2, 4, 3, 2, 4, 3, 3, 2, 2, 2, 4, 3, 4, 1, 1)

CIFAR_TRAIN = np.random.default_rng(0).permutation(np.repeat(np.arange(100), 500))
CIFAR_TEST = np.random.default_rng(1).permutation(np.repeat(np.arange(100), 100))


def cifar(kind="class", tasks=20, seed=42, val_ratio=0.1, order=()):
    return benchmark(
        CIFAR_TRAIN,
        CIFAR_TEST,
        kind=kind,
        tasks=tasks,
        seed=seed,
        val_ratio=val_ratio,
        order=order,
        blur=100,
    )


def small(labels=(0, 0, 0, 1, 1, 1), tests=(0, 1), **options):
    options = {"kind": "class", "tasks": 2, "seed": 0, "val_ratio": 0.0} | options
    return benchmark(np.array(labels), np.array(tests), **options)


def same(one, other):
    return all(
        len(a) == len(b)
        and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
        for a, b in zip(one[:4], other[:4], strict=True)
    )


def test_class_orders_are_those_of_torch():
    assert torch_permutation(10, seed=42).tolist() == ORDER_42_OF_10
    order = torch_permutation(100, seed=42).tolist()
    assert order[:17] == ORDER_42_STARTS
    assert order[-5:] == ORDER_42_ENDS
    assert sorted(order) == list(range(100))
    assert torch_permutation(100, seed=5)[:17].tolist() == ORDER_5_STARTS
    assert torch_permutation(1, seed=3).tolist() == [0]


@pytest.mark.parametrize("seed", SIZES)
def test_irregular_sizes_are_those_of_the_suite(seed):
    assert irregular_sizes(100, tasks=20, seed=seed) == SIZES[seed]


def test_irregular_sizes_of_many_tasks():
    sizes = irregular_sizes(100, tasks=50, seed=42)
    assert sizes[:16] == SIZES_42_OF_50_TASKS
    assert sum(sizes) == 100
    assert irregular_sizes(100, tasks=100, seed=7) == (1,) * 100
    with pytest.raises(ValueError, match="10 classes make 1 to 10 irregular tasks"):
        irregular_sizes(10, tasks=11, seed=0)


@pytest.mark.parametrize("tasks", [20, 50, 100])
def test_class_tasks_have_the_published_sizes(tasks):
    bench = cifar(tasks=tasks)
    per = 100 // tasks
    assert [len(t) for t in bench.train] == [450 * per] * tasks  # 2250, 900, 450
    assert [len(v) for v in bench.val] == [50 * per] * tasks
    assert [len(t) for t in bench.test] == [100 * per] * tasks
    drawn = [c for classes in bench.classes for c in classes]
    assert drawn[:17] == ORDER_42_STARTS


def test_every_experience_holds_its_own_classes_evenly():
    bench = cifar()
    for train, val, test, classes in zip(*bench[:4], strict=True):
        for rows, labels, each in (
            (train, CIFAR_TRAIN, 450),
            (val, CIFAR_TRAIN, 50),
            (test, CIFAR_TEST, 100),
        ):
            found, counts = np.unique(labels[rows], return_counts=True)
            assert found.tolist() == sorted(classes)
            assert (counts == each).all()


@pytest.mark.parametrize("kind", ["class", "irregular", "iid", "blurred"])
@pytest.mark.parametrize("val_ratio", [0.0, 0.1])
def test_every_image_is_in_one_place_exactly(kind, val_ratio):
    bench = cifar(kind, val_ratio=val_ratio)
    used = np.concatenate([*bench.train, *bench.val, *bench.segments])
    assert np.array_equal(np.sort(used), np.arange(50_000))
    assert np.array_equal(np.sort(np.concatenate(bench.test)), np.arange(10_000))
    assert sum(len(v) for v in bench.val) == (5_000 if val_ratio else 0)


def test_irregular_tasks_vary_in_classes_only():
    bench = cifar("irregular")
    assert tuple(len(c) for c in bench.classes) == SIZES[42]
    assert [len(t) for t in bench.train] == [450 * n for n in SIZES[42]]
    assert sum(bench.classes, ()) == sum(cifar().classes, ())


def test_iid_has_the_sets_of_the_class_stream():
    assert same(cifar("iid"), cifar())
    assert len(small(range(11), (), kind="iid", tasks=1).train[0]) == 11


def test_an_iid_schedule_mixes_all_experiences():
    plan = schedule(cifar("iid"), key_seed=3, batch_size=10)
    assert plan.mask.all()
    assert np.array_equal(
        np.sort(plan.id.ravel()), np.sort(np.concatenate(cifar().train))
    )
    # 2250 draws of 100 classes: 22.5 of each; fewer than 3 has odds below 1e-6.
    for number in range(20):
        images = plan.id[plan.experience == number]
        assert images.size == 2250
        assert np.bincount(CIFAR_TRAIN[images.ravel()]).min() >= 3
    assert plan.boundary.tolist() == [True] + [False] * 4499


def test_iid_epochs_are_the_suites_budget_and_are_probed_evenly():
    # The suite's iid run: 42 epochs at batch 138. It drops each epoch's last 12 images
    # and makes 42 x 326 steps; here they make one step more an epoch.
    bench = cifar("iid")
    plan = schedule(bench, key_seed=0, batch_size=138, epochs=42)
    assert np.array_equal(np.unique(plan.epoch), np.arange(42))
    assert len(plan.id) == 42 * 327
    shown = plan.id[plan.mask].reshape(42, 45_000)
    pool = np.sort(np.concatenate(bench.train))
    assert all(np.array_equal(np.sort(epoch), pool) for epoch in shown)
    assert not np.array_equal(shown[0], shown[1])
    assert plan.mask.sum(1).min() == 137
    ends = np.flatnonzero(np.diff(plan.experience, append=20)) + 1
    assert ends.tolist() == [round(13_734 * (i + 1) / 20 + 1e-9) for i in range(20)]
    assert plan.boundary.sum() == 1
    once = schedule(bench, key_seed=0, batch_size=138)
    assert np.array_equal(once.id, plan.id[:327])


def test_an_iid_stream_is_probed_as_often_as_it_has_tasks():
    bench = small(range(12), (), kind="iid", tasks=4)
    plan = schedule(bench, key_seed=0, batch_size=3)
    assert plan.experience.tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="3 batches do not make 4 tasks"):
        schedule(bench, key_seed=0, batch_size=4)


def test_validation_does_not_depend_on_the_tasks():
    held_out = [np.sort(np.concatenate(cifar(tasks=t).val)) for t in (1, 20, 100)]
    assert np.array_equal(held_out[0], held_out[1])
    assert np.array_equal(held_out[0], held_out[2])
    assert not np.array_equal(held_out[0], np.sort(np.concatenate(cifar(seed=1).val)))


def test_classes_are_split_independently():
    bench = small([0] * 50 + [1] * 50, val_ratio=0.2, order=(0, 1))
    assert set(bench.val[0]) != set(bench.val[1] - 50)


def test_validation_is_rounded_down_and_random():
    bench = small([0] * 19 + [1] * 9, val_ratio=0.1)
    assert sorted(len(v) for v in bench.val) == [0, 1]
    chosen = {int(small([0] * 10, [], tasks=1, seed=s, val_ratio=0.1).val[0][0])
              for s in range(20)}  # fmt: skip
    assert len(chosen) > 3


def test_a_given_order_is_kept():
    order = tuple(range(99, -1, -1))
    assert cifar(order=order).classes[0] == (99, 98, 97, 96, 95)
    assert small([4, 4, 9], [9], order=(9, 4)).classes == ((9,), (4,))


@pytest.mark.parametrize("kind", ["class", "irregular", "iid", "blurred"])
def test_benchmarks_are_functions_of_their_arguments(kind):
    assert same(cifar(kind), cifar(kind))
    assert not same(cifar(kind), cifar(kind, seed=43))


def test_unlabelled_images_make_an_iid_stream():
    bench = small([-1] * 10, [-1] * 4, kind="iid", tasks=3, val_ratio=0.1)
    assert sorted(np.concatenate(bench.train)) == list(range(10))
    assert sorted(np.concatenate(bench.test)) == list(range(4))
    assert bench.classes == ((), (), ())
    assert sum(map(len, bench.val)) == 0
    plan = schedule(bench, key_seed=0, batch_size=2)
    assert sorted(plan.id[plan.mask]) == list(range(10))
    assert plan.experience.tolist() == [0, 0, 1, 2, 2]  # ends at 5/3, 10/3, 5: rounded


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"kind": "blured"},
            "known are class, irregular, blurred, domain, permuted, iid",
        ),
        (
            {"tasks": 3, "labels": range(12)},
            "make 1, 2, 3, 4, 6, 12 equal tasks, not 5",
        ),
        ({"tasks": 0}, "at least 1 task"),
        ({"val_ratio": 1.0}, r"in \[0, 1\)"),
        ({"val_ratio": -0.1}, r"in \[0, 1\)"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"order": (0, 0)}, "each of the 2 class labels once"),
        ({"order": (0,)}, "each of the 2 class labels once"),
        ({"labels": (-1, 0)}, "of the kinds domain and iid only, not 'class'"),
        ({"tests": (0, 7)}, r"test labels \[7\] never occur"),
        ({"labels": ()}, "at least one for training"),
        ({"labels": (-1,), "kind": "iid"}, "1 images do not make 2 experiences"),
        ({"kind": "irregular", "tasks": 3}, "2 classes make 1 to 2 irregular"),
    ],
)
def test_impossible_streams_are_refused_in_words(options, words):
    if "equal tasks" in words:
        options = options | {"tasks": 5, "tests": ()}
    with pytest.raises(ValueError, match=words) as error:
        small(**options)
    assert "\n" not in str(error.value)


def ragged():
    parts = tuple(np.arange(a, b, dtype=np.int32) for a, b in ((0, 7), (7, 9), (9, 18)))
    return Benchmark(parts, parts, parts, ((0,), (1,), (2,)), "class")


def test_a_schedule_shows_every_image_once_and_marks_the_rest():
    plan = schedule(ragged(), key_seed=0, batch_size=3)
    assert plan.id.shape == plan.mask.shape == (7, 3)
    assert plan.id.dtype == plan.experience.dtype == np.int32
    assert sorted(plan.id[plan.mask]) == list(range(18))
    assert plan.mask.sum(1).tolist() == [3, 2, 2, 2, 3, 3, 3]  # evenly: no batch of one
    assert plan.experience.tolist() == [0, 0, 0, 1, 2, 2, 2]
    assert plan.boundary.tolist() == [True, False, False, True, True, False, False]
    for row, number in zip(plan.id, plan.experience, strict=True):  # padding included
        assert np.isin(row, ragged().train[number]).all()


def test_a_batch_larger_than_an_experience_is_filled_up():
    plan = schedule(ragged(), key_seed=0, batch_size=16)
    assert plan.mask.sum(1).tolist() == [7, 2, 9]
    assert plan.boundary.all()
    assert sorted(plan.id[plan.mask]) == list(range(18))


def test_schedules_shuffle_by_seed_and_experience():
    bench = cifar()
    plan = schedule(bench, key_seed=3, batch_size=10)
    again = schedule(bench, key_seed=3, batch_size=10)
    assert all(np.array_equal(a, b) for a, b in zip(plan, again, strict=True))
    assert not np.array_equal(plan.id, schedule(bench, key_seed=4, batch_size=10).id)
    assert plan.id.shape == (4500, 10)  # the suite's budget
    assert plan.boundary.sum() == 20
    # As in the specification of the order: experience 7 alone, from its own seed.
    shuffled = np.random.default_rng([3, 7]).permutation(bench.train[7])
    assert np.array_equal(plan.id[plan.experience == 7].ravel(), shuffled)


def test_a_limit_cuts_the_stream_and_nothing_else():
    whole = schedule(ragged(), key_seed=0, batch_size=3)
    part = schedule(ragged(), key_seed=0, batch_size=3, limit=4)
    assert all(np.array_equal(a[:4], b) for a, b in zip(whole, part, strict=True))
    assert len(schedule(ragged(), key_seed=0, batch_size=3, limit=99).id) == 7


@pytest.mark.parametrize(
    "bad", [{"key_seed": -1}, {"batch_size": 0}, {"limit": -1}, {"epochs": 0}]
)
def test_impossible_schedules_are_refused(bad):
    with pytest.raises(ValueError, match="at least"):
        schedule(ragged(), **({"key_seed": 0, "batch_size": 1} | bad))


@pytest.mark.parametrize("kind", ["irregular", "blurred"])
def test_streams_that_arrive_once_have_no_epochs(kind):
    with pytest.raises(ValueError, match=f"epochs must be 1 .* kind '{kind}'"):
        schedule(cifar(kind), key_seed=0, batch_size=10, epochs=2)


def test_each_experience_of_a_class_stream_may_have_epochs_of_its_own():
    once, plan = (
        schedule(cifar(), key_seed=1, batch_size=10, epochs=e) for e in (1, 3)
    )
    assert np.array_equal(plan.experience, np.repeat(np.arange(20), 3 * 225))
    for number, images in enumerate(cifar().train):
        shown = plan.id[plan.experience == number].reshape(3, -1)
        assert all(np.array_equal(np.sort(epoch), images) for epoch in shown)
        assert not np.array_equal(shown[1], shown[2])
        assert np.array_equal(shown[0], once.id[once.experience == number].ravel())
        epochs = plan.epoch[plan.experience == number]
        assert np.array_equal(epochs, np.repeat([0, 1, 2], 225))
    assert not once.epoch.any()
    # A boundary is where an experience begins, not where its images arrive again.
    assert np.flatnonzero(plan.boundary).tolist() == list(range(0, 13_500, 675))


def test_known_experiences_arrive_once_and_no_limit_counts_them():
    plan = schedule(cifar(), key_seed=1, batch_size=10, epochs=3, known=2, limit=7)
    assert np.bincount(plan.experience).tolist() == [225, 225, 7]
    once = schedule(cifar(), key_seed=1, batch_size=10)
    assert np.array_equal(plan.id, once.id[:457])
    assert np.array_equal(plan.boundary, once.boundary[:457])
    assert not plan.epoch.any()


@pytest.mark.parametrize(("kind", "most"), [("class", 20), ("iid", 0)])
def test_no_more_can_be_known_than_there_is(kind, most):
    with pytest.raises(
        ValueError, match=f"known must be 0 to {most} .* not {most + 1}"
    ):
        schedule(cifar(kind), key_seed=0, batch_size=10, known=most + 1)
