"""The lines that tell how far a run has come."""

from types import SimpleNamespace

import pytest

from ocssl_jax import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is set."""
    held = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: held.now)
    return held


def a_run(*, step, total, ends):
    course = SimpleNamespace(total=total, ends=ends, samples=lambda batch: 10 * batch)
    config = SimpleNamespace(seeds=(0, 1))
    return SimpleNamespace(step=step, course=course, config=config, name="climb")


def test_the_time_left_leaves_out_what_compiling_took(clock, capsys):
    run = a_run(step=0, total=100, ends={60: 0})
    with progress.Progress(run, "climb") as shown:
        for step, now in ((10, 200.0), (20, 201.0), (60, 205.0), (90, 295.0)):
            run.step, clock.now = step, now
            shown.moved(run, [{"loss": 2.0}, None, {"loss": 3.0}], 12.34)
    assert capsys.readouterr().out.splitlines() == [
        "climb: batch  10/100  loss 2.500  compiled and learnt in 01:40",
        # 50 batches in 5 s since the first chunk; nobody says 20, so soon after.
        "climb: batch  60/100  loss 2.500  12.3 images/s  00:04 left",
        "climb: batch  90/100  loss 2.500  12.3 images/s  00:11 left",
    ]


def test_a_resumed_run_is_timed_from_where_it_was(clock, capsys):
    run = a_run(step=50, total=100, ends={100: 0})
    with progress.Progress(run, "er") as shown:
        for step, now in ((60, 130.0), (100, 140.0)):
            run.step, clock.now = step, now
            shown.moved(run, [{"loss": 1.0}], 5.0)
    assert capsys.readouterr().out.splitlines() == [
        "er: resumed at stream batch 50 of 100",
        "climb: batch  60/100  loss 1.000  compiled and learnt in 00:30",
        "climb: batch 100/100  loss 1.000  5.0 images/s  00:00 left",
    ]
