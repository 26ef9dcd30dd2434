"""Domain-incremental streams: who is where, in which order, and what is refused."""

import numpy as np
import pytest

from ocssl_jax.data import benchmark, schedule

RNG = np.random.default_rng(0)
# Three domains of four classes; domain 2 has no image of class 3, domain 1 but few.
COUNTS = np.array([[30, 20, 10, 40], [20, 20, 20, 5], [15, 25, 35, 0]])
DOMAIN, LABEL = (
    a.ravel()
    for a in np.unravel_index(
        RNG.permutation(np.repeat(np.arange(12), COUNTS.ravel())), COUNTS.shape
    )
)
TEST_DOMAIN = np.repeat(np.arange(3), 4)
TEST_LABEL = np.tile(np.arange(4), 3)


def cut(**options):
    given = {"kind": "domain", "tasks": 3, "seed": 42, "val_ratio": 0.1} | options
    labels = given.pop("labels", (LABEL, TEST_LABEL))
    domains = {"train_domain": DOMAIN, "test_domain": TEST_DOMAIN}
    return benchmark(*labels, **(domains | given))


def test_an_experience_is_a_domain_with_all_classes():
    bench = cut()
    assert len(bench.train) == len(bench.test) == len(bench.val) == 3
    for i in range(3):
        assert (DOMAIN[bench.train[i]] == i).all()
        assert (DOMAIN[bench.val[i]] == i).all()
        assert np.array_equal(bench.test[i], np.flatnonzero(i == TEST_DOMAIN))
        assert sorted(bench.classes[i]) == [0, 1, 2, 3]
    used = np.sort(np.concatenate([*bench.train, *bench.val]))
    assert np.array_equal(used, np.arange(len(LABEL)))


def test_validation_is_a_tenth_of_each_class_of_each_domain():
    bench = cut()
    for i in range(3):
        held_out = np.bincount(LABEL[bench.val[i]], minlength=4)
        assert held_out.tolist() == (COUNTS[i] * 0.1).astype(int).tolist()


def test_validation_depends_on_the_domain_alone_not_on_its_place():
    assert np.array_equal(cut().val[2], cut(order=(2, 0, 1)).val[0])
    assert not np.array_equal(cut().val[2], cut(seed=1).val[2])


def test_domains_arrive_as_listed_or_as_told():
    told = cut(order=(2, 0, 1))
    assert [int(DOMAIN[t[0]]) for t in told.train] == [2, 0, 1]
    assert [int(TEST_DOMAIN[t[0]]) for t in told.test] == [2, 0, 1]
    # The seed draws no order of domains.
    assert [int(DOMAIN[t[0]]) for t in cut(seed=7).train] == [0, 1, 2]


def test_only_some_classes_may_be_used():
    bench = cut(classes=2)
    used = set(bench.classes[0])
    assert len(used) == 2 and all(set(c) == used for c in bench.classes)
    assert set(LABEL[np.concatenate(bench.train)]) == used
    assert set(TEST_LABEL[np.concatenate(bench.test)]) == used
    # They are those that a class stream would begin with.
    assert (
        bench.classes[0]
        == cut(kind="class", tasks=2, classes=2).classes[0]
        + (cut(kind="class", tasks=2, classes=2).classes[1])
    )


def test_such_data_make_class_streams_too():
    bench = cut(kind="class", tasks=4)
    for train, classes in zip(bench.train, bench.classes, strict=True):
        assert set(LABEL[train]) == set(classes)
        assert len(np.unique(DOMAIN[train])) == len(np.flatnonzero(COUNTS.T[classes]))


def test_unlabelled_domains():
    nothing = np.full_like(LABEL, -1), np.full_like(TEST_LABEL, -1)
    bench = cut(labels=nothing)
    assert [len(t) for t in bench.train] == COUNTS.sum(1).tolist()
    assert bench.classes == ((), (), ())
    assert sum(map(len, bench.val)) == 0


def test_a_schedule_keeps_domains_apart():
    bench = cut()
    plan = schedule(bench, key_seed=0, batch_size=7)
    assert sorted(plan.id[plan.mask]) == sorted(np.concatenate(bench.train))
    for row, number in zip(plan.id, plan.experience, strict=True):
        assert (DOMAIN[row] == number).all()
    assert plan.boundary.sum() == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tasks": 4}, "3 domains make 3 tasks, not 4"),
        ({"order": (0, 1)}, "each of 0 .. 2 once"),
        ({"order": (0, 1, 1)}, "each of 0 .. 2 once"),
        ({"train_domain": None}, "needs a data set that has domains"),
        ({"test_domain": np.where(TEST_DOMAIN == 0, 3, 0)}, r"\[3\] have no training"),
        ({"classes": 5}, "at most 4"),
    ],
)
def test_impossible_domain_streams_are_refused(options, words):
    with pytest.raises(ValueError, match=words) as error:
        cut(**options)
    assert "\n" not in str(error.value)
