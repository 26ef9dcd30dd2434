"""Streams that bring back images of earlier experiences."""

import numpy as np
import pytest

from ocssl_jax.data import benchmark, remembered, schedule
from ocssl_jax.feed import pools_of

LABEL = np.repeat(np.arange(6), 20)
BUDGET = 10


def classes(kind="class"):
    return benchmark(LABEL, LABEL, kind=kind, tasks=3, seed=1, val_ratio=0.0)


def earlier(bench, again):
    """What each experience brings back."""
    pairs = zip(bench.train, again.train, strict=True)
    return [np.setdiff1d(more, own) for own, more in pairs]


def test_each_experience_brings_back_equally_many_of_each_earlier_class():
    bench = classes()
    again = remembered(bench, LABEL, None, budget=BUDGET, seed=0)
    back = earlier(bench, again)
    assert [len(ids) for ids in back] == [0, BUDGET, BUDGET]
    for i in (1, 2):
        met = [k for group in bench.classes[:i] for k in group]
        found = np.bincount(LABEL[back[i]], minlength=6)
        assert found[met].max() - found[met].min() <= 1 and found.sum() == BUDGET
        assert not found[np.setdiff1d(np.arange(6), met)].any()
        np.testing.assert_array_equal(
            np.intersect1d(bench.train[i], again.train[i]), np.sort(bench.train[i])
        )
    # What stays of the first experience was in the memory before.
    old = back[2][np.isin(LABEL[back[2]], bench.classes[0])]
    assert np.isin(old, back[1]).all()


def test_the_choice_is_the_seeds_and_a_budget_of_none_changes_nothing():
    bench = classes()
    one, same, other = (
        remembered(bench, LABEL, None, budget=BUDGET, seed=s) for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.train[2], same.train[2])
    assert set(one.train[2].tolist()) != set(other.train[2].tolist())
    assert remembered(bench, LABEL, None, budget=0, seed=0) is bench


def test_a_stream_without_a_past_has_no_memory():
    with pytest.raises(ValueError, match=r"memory must be 0 .* 'iid'"):
        remembered(classes("iid"), LABEL, None, budget=BUDGET, seed=0)


class Labels:
    train_label = LABEL
    class_names = tuple("abcdef")


def test_the_pool_counts_each_image_of_an_experience_once():
    again = remembered(classes(), LABEL, None, budget=BUDGET, seed=0)
    plan = schedule(again, key_seed=0, batch_size=7, epochs=3)
    expected = [np.bincount(LABEL[ids], minlength=6) for ids in again.train]
    np.testing.assert_array_equal(pools_of(Labels, plan), expected)


def test_the_pool_of_a_shuffled_stream_is_all_of_it():
    plan = schedule(classes("iid"), key_seed=0, batch_size=7, epochs=2)
    np.testing.assert_array_equal(pools_of(Labels, plan), [[20] * 6])
