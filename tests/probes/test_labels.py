import numpy as np
import pytest

from ocssl_jax.probes import subset

Y = np.random.default_rng(0).permutation(np.repeat([3, 5, 9], [40, 10, 2]))


def count(chosen):
    return [int((Y[chosen] == label).sum()) for label in (3, 5, 9)]


def test_every_class_keeps_its_share_and_none_vanishes():
    assert count(subset(0, Y, ratio=0.25)) == [10, 3, 1]
    assert count(subset(0, Y, ratio=0.01)) == [1, 1, 1]
    assert count(subset(0, Y, per_class=4)) == [4, 4, 2]


def test_no_limit_is_every_label():
    np.testing.assert_array_equal(subset(0, Y), np.arange(len(Y)))


def test_the_choice_is_sorted_distinct_and_a_function_of_the_seed():
    chosen = subset(1, Y, ratio=0.5)
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen, subset(1, Y, ratio=0.5))
    assert (subset(2, Y, ratio=0.5) != chosen).any()


def test_a_smaller_budget_is_part_of_a_larger_one():
    assert set(subset(0, Y, ratio=0.1)) < set(subset(0, Y, ratio=0.5))
    assert set(subset(0, Y, per_class=1)) < set(subset(0, Y, per_class=3))


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"ratio": 0.0}, "ratio must be"),
        ({"ratio": 1.5}, "ratio must be"),
        ({"per_class": -1}, "per_class must be"),
        ({"per_class": 2, "ratio": 0.5}, "not both"),
    ],
)
def test_bad_budgets_fail_in_words(limits, says):
    with pytest.raises(ValueError, match=says):
        subset(0, Y, **limits)
