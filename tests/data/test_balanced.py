"""Class-balanced batches: who is in them, how often, and what stays as it was."""

import numpy as np
import pytest

from ocssl_jax.data import balanced, benchmark, remembered, schedule

LABEL = np.repeat(np.arange(6), 20)
BATCH = 8


def plans(classes, *, memory=3, epochs=2, **fields):
    bench = benchmark(LABEL, LABEL, kind="class", tasks=3, seed=1, val_ratio=0.0)
    bench = remembered(bench, LABEL, None, budget=memory, seed=0)
    plan = schedule(bench, key_seed=0, batch_size=BATCH, epochs=epochs, **fields)
    return bench, plan, balanced(plan, LABEL, classes=classes, key_seed=0, **fields)


def test_batches_hold_equally_many_of_each_class_and_no_image_twice():
    """Memory has a row or two of each earlier class: all of them, and no copies."""
    bench, plan, found = plans(4)
    np.testing.assert_array_equal(found.experience, plan.experience)
    np.testing.assert_array_equal(found.boundary, plan.boundary)
    for ids, mask, number in zip(found.id, found.mask, found.experience, strict=True):
        rows, pool = ids[mask], bench.train[number]
        assert len(np.unique(rows)) == len(rows) and np.isin(rows, pool).all()
        there = np.bincount(LABEL[pool], minlength=6)
        held = np.bincount(LABEL[rows], minlength=6)
        assert np.count_nonzero(held) == min(4, np.count_nonzero(there))
        assert (held[held > 0] == np.minimum(2, there[held > 0])).all()


def test_every_class_of_the_pool_is_as_likely():
    bench, _, found = plans(2, epochs=60)
    last = found.experience == 2
    held = [LABEL[i[m]] for i, m in zip(found.id[last], found.mask[last], strict=True)]
    classes = np.unique(LABEL[bench.train[2]])
    share = [np.mean([k in labels for labels in held]) for k in classes]
    np.testing.assert_allclose(share, 2 / len(classes), atol=0.06)


def test_known_experiences_and_uniform_batches_stay_as_they_are():
    _, plan, found = plans(4, known=1)
    first = plan.experience == 0
    np.testing.assert_array_equal(found.id[first], plan.id[first])
    assert not np.array_equal(found.id, plan.id)
    assert balanced(plan, LABEL, classes=0, key_seed=0) is plan


def test_classes_must_divide_the_batch():
    with pytest.raises(ValueError, match="must divide batch_size 8, not 3"):
        plans(3)
