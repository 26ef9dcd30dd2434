"""What happens at which stream batch, counted one by one."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from ocssl_jax.course import Course
from ocssl_jax.data.arrivals import Schedule

WHICH = np.array([0, 0, 0, 1, 1, 1, 1, 2])


def course(*, log=3, save=4, chunk=5, known=0):
    mask = np.ones((8, 2), bool)
    mask[2, 1] = False  # a short batch ends the first experience
    boundary = np.diff(WHICH, prepend=-1) > 0
    epoch = np.zeros(8, np.int32)
    schedule = Schedule(np.zeros((8, 2), np.int32), mask, WHICH, boundary, epoch)
    fields = {
        "log": {"every": log},
        "checkpoint": {"every": save},
        "stream": {"known": known},
    }
    return Course(schedule, ConfigDict(fields), chunk=chunk)


def test_counts_and_ends():
    c = course(known=1)
    assert (c.total, c.passed, c.ends) == (8, 3, {3: 0, 7: 1, 8: 2})
    assert [c.samples(step) for step in range(9)] == [0, 2, 4, 5, 7, 9, 11, 13, 15]
    assert [c.experience(step) for step in range(1, 9)] == WHICH.tolist()
    assert [step for step in range(1, 9) if c.saved(step)] == [3, 4, 7, 8]


@pytest.mark.parametrize("known", [0, 1, 2])
def test_lines_are_those_logged_of_what_is_trained_on(known):
    c = course(known=known)
    logged = [step for step in range(c.passed + 1, 9) if c.logged(step)]
    assert logged == [step for step in (3, 6, 8) if step > c.passed]
    for step in range(9):
        assert c.lines(step) == sum(found <= step for found in logged)


@pytest.mark.parametrize("chunk", [1, 2, 5, 100])
def test_no_chunk_runs_over_what_is_due(chunk):
    c, step, met = course(chunk=chunk), 0, []
    while step < c.total:
        after = c.next_stop(step)
        assert step < after <= step + chunk
        assert not any(c.saved(s) for s in range(step + 1, after))
        step = after
        met.append(step)
    assert {3, 4, 7, 8} <= set(met)
