"""The memory of equal classes: quotas, nesting, uniform choice, and its batches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocssl_jax.clip.memory import Kept, after_task, nothing, priorities, quotas
from ocssl_jax.clip.sampler import class_balanced, uniform
from ocssl_jax.errors import UsageError

# Worked out with Python's whole numbers.
PINNED = [9507321334815476053, 7679224513536973917, 18404156441215722202]


def task(classes, per_class, start=0, domain=0):
    label = np.repeat(classes, per_class)
    ids = start + np.arange(len(label))
    return Kept(ids, label, np.full(len(label), domain))


def counts(memory, classes):
    return np.bincount(memory.label, minlength=classes)


def test_priorities_are_a_bijection_that_the_seed_turns():
    ids = np.arange(200_000)
    a, b = priorities(0, ids), priorities(1, ids)
    assert len(np.unique(a)) == len(ids) and a.dtype == np.uint64
    assert abs(np.corrcoef(a.astype(float), b.astype(float))[0, 1]) < 0.01
    assert abs(np.corrcoef(a.astype(float), ids)[0, 1]) < 0.01
    # Fixed for ever: a memory that was saved must be reduced as it would have been.
    assert priorities(7, np.array([0, 1, 10**9])).tolist() == PINNED


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=12),
    st.integers(0, 200),
    st.integers(0, 5),
)
def test_quotas(sizes, total, seed):
    """All that fit, and unequal only where a group has no more."""
    order = np.random.default_rng(seed).permutation(len(sizes))
    quota = quotas(sizes, total, order)
    assert quota.sum() == min(total, sum(sizes))
    assert (quota >= 0).all() and (quota <= sizes).all()
    for i in range(len(sizes)):
        for j in range(len(sizes)):
            if quota[i] < quota[j] - 1:
                assert quota[i] == sizes[i]
            if quota[i] == quota[j] - 1 and quota[i] < sizes[i]:
                assert order[j] < order[i]


@pytest.mark.parametrize("budget", [0, 3, 7, 20, 33, 10_000])
def test_ten_tasks(budget):
    """Never too many, as equal as can be, within the memory before and the task."""
    memory = nothing()
    for t in range(10):
        new = task([2 * t, 2 * t + 1], 50, start=1000 * t)
        old, memory = memory, after_task(memory, new, budget=budget, seed=3)
        seen = 2 * (t + 1)
        assert len(memory.id) == min(budget, 50 * seen)
        held = counts(memory, seen)
        assert held.max() - held.min() <= 1
        assert set(memory.id) <= set(old.id) | set(new.id)
        assert (np.diff(memory.id) > 0).all()
        np.testing.assert_array_equal(memory.label, label_of(memory.id))
    # The same as if all tasks had come at once: nothing depends on the way there.
    whole = [task([2 * t, 2 * t + 1], 50, start=1000 * t) for t in range(10)]
    at_once = Kept(*(np.concatenate(x) for x in zip(*whole, strict=True)))
    once = after_task(nothing(), at_once, budget=budget, seed=3)
    np.testing.assert_array_equal(once.id, memory.id)


def label_of(ids):
    return ids // 1000 * 2 + ids % 1000 // 50


def test_every_row_is_equally_likely():
    """Chi-square over 400 seeds, after two reductions; p = 0.001."""
    kept = np.zeros(40)
    for seed in range(400):
        memory = after_task(nothing(), task([0], 20), budget=8, seed=seed)
        memory = after_task(memory, task([1], 20, start=20), budget=8, seed=seed)
        kept[memory.id] += 1
    assert kept[:20].sum() == kept[20:].sum() == 1600
    chi = np.sum((kept - 80) ** 2 / (80 * (1 - 4 / 20)))  # 38 degrees of freedom
    assert chi < 70.7


def test_domains_share_a_class_equally():
    """Domain-incremental: the same classes again, one of them empty in a domain."""
    memory = nothing()
    for d in range(3):
        new = task([0, 1] if d != 1 else [0], 30, start=100 * d, domain=d)
        memory = after_task(memory, new, budget=24, seed=0)
    for label, expected in ((0, [4, 4, 4]), (1, [6, 0, 6])):
        domains = memory.domain[memory.label == label]
        assert np.bincount(domains, minlength=3).tolist() == expected


def test_bad_memories():
    with pytest.raises(UsageError, match="at least 0, got -1"):
        after_task(nothing(), task([0], 3), budget=-1, seed=0)
    memory = after_task(nothing(), task([0], 3), budget=2, seed=0)
    with pytest.raises(UsageError, match="in the memory already, or came twice"):
        after_task(memory, task([0], 3), budget=2, seed=0)


def test_batches_of_an_epoch_and_of_classes():
    label = np.array([5, 5, 5, 9, 9, 2])
    draws = list(uniform(np.random.default_rng(0), label, 4))
    assert [draw.mask.sum() for draw in draws] == [4, 2]
    rows = np.concatenate([draw.row[draw.mask] for draw in draws])
    assert sorted(rows) == list(range(6))
    draw = class_balanced(np.random.default_rng(0), label, classes=3, rows=2)
    real = draw.row[draw.mask]
    assert draw.row.shape == (6,) and len(real) == len(set(real)) == 5
    assert not draw.share[~draw.mask].any()
    # All classes are in: the shares are one over the rows of each.
    np.testing.assert_allclose(
        draw.share[draw.mask], np.where(label[real] == 2, 1.0, 0.5)
    )
    with pytest.raises(UsageError, match="needs 1 to 3 classes, those of the pool"):
        class_balanced(np.random.default_rng(0), label, classes=4, rows=2)
