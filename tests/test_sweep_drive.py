"""Runs of a sweep that are driven together: one that ends takes no other with it."""

import io
from types import SimpleNamespace

import pytest
from jax.errors import JaxRuntimeError

from ocssl_jax.errors import Interrupted, TrainingError
from ocssl_jax.sweep import search
from ocssl_jax.sweep.ledger import Result


class Lane:
    """Work that says how often it was done, or fails."""

    def __init__(self, error=None):
        self.carrier = SimpleNamespace(beside=None)
        self.times, self.error = 0, error

    def done(self):
        if self.error:
            raise self.error
        self.times += 1
        return self.times


def run(chunks, *, error=None, at=None, saved=None, work=None):
    """A run of so many chunks; it ends by `error` after chunk `at`, having saved."""
    work = work or Lane()
    for i in range(1, chunks + 1):
        assert (yield work) == i
        if i == at:
            if saved is not None:
                saved.append(i)
            raise error
    return "a table"


@pytest.fixture
def drive(monkeypatch, tmp_path):
    """Outcomes of runs; those that finish are called that."""
    known = lambda folder, *, probe, failed: Result("finished")
    monkeypatch.setattr(search.ledger, "result", known)
    plan, log = SimpleNamespace(folder=tmp_path, probe="ridge"), io.StringIO()
    return lambda runs: search.drive(plan, runs, log)


def outcomes(found):
    return {name: result.status for name, result in found}


def test_each_run_is_told_of_when_it_ends(drive):
    runs = {"long": run(3), "short": run(1)}
    assert [name for name, _ in drive(runs)] == ["short", "long"]


def test_one_that_breaks_down_is_recorded_and_the_others_go_on(drive):
    bad = run(3, error=TrainingError("nan"), at=1)
    assert outcomes(drive({"good": run(3), "bad": bad})) == {
        "bad": "failed",
        "good": "finished",
    }


def test_asked_to_stop_all_save_before_the_sweep_ends(drive):
    """Two stop at once and one a chunk later, as if it were amid an experience."""
    saved = []
    stopped = lambda at: run(9, error=Interrupted("stopped"), at=at, saved=saved)
    with pytest.raises(Interrupted):
        list(drive({"a": stopped(2), "b": stopped(3), "c": stopped(2)}))
    assert sorted(saved) == [2, 2, 3]


def test_one_that_finishes_while_others_stop_is_not_lost(drive):
    runs = {"a": run(9, error=Interrupted("stopped"), at=1), "b": run(2)}
    seen = []
    with pytest.raises(Interrupted):
        for name, result in drive(runs):
            seen.append((name, result.status))
    assert seen == [("b", "finished")]


def test_a_device_too_small_for_all_fails_those_that_asked(drive):
    error = JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nstatistics")
    found = dict(drive({"a": run(2, work=Lane(error)), "b": run(2)}))
    assert {name: r.status for name, r in found.items()} == {
        "a": "failed",
        "b": "failed",
    }
    assert found["b"].reason == "RESOURCE_EXHAUSTED: Out of memory"


def test_what_is_wrong_with_a_folder_ends_the_sweep(drive):
    with pytest.raises(OSError, match="disk"):
        list(drive({"a": run(2, error=OSError("disk"), at=1), "b": run(2)}))
