"""Runs that are disturbed, repeated, end with the same bits as one that never was."""

import random
import signal
from pathlib import Path

import pytest
from processes import (
    assert_same,
    command,
    finish,
    killed,
    moments,
    saved,
    signalled,
    start,
    steps_logged,
)
from tiny import method_of, strategy_of

from ocssl_jax.methods import METHODS
from ocssl_jax.strategies import STRATEGIES

# Every strategy, and every method with one of them.
PAIRS = [f"{s}-{method_of(s)}" for s in STRATEGIES]
PAIRS += [f"{strategy_of(m)}-{m}" for m in METHODS if m != "simclr"]
RIDGE = "--config.probe.names=('ridge',)"  # the probe that is there at once


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("kill")


@pytest.fixture(scope="module")
def undisturbed(place) -> Path:
    finish(command(place, place / "undisturbed", RIDGE))
    return place / "undisturbed"


@pytest.mark.timeout(900)
def test_a_disturbed_run_ends_with_the_same_bits(place, undisturbed):
    """SIGKILL inside a checkpoint write, then SIGTERM, then SIGINT, then on to the end.

    The other signals save within the chunk that is under way, which is one batch here.
    """
    workdir = place / "disturbed"
    args = command(place, workdir, RIDGE)
    writing = moments(workdir, random.Random(7))["inside a checkpoint write"]
    assert killed(args, writing)
    for kind in (signal.SIGTERM, signal.SIGINT):
        before, seen = steps_logged(workdir), 0

        def moment(before=before):
            nonlocal seen
            seen = steps_logged(workdir)
            return seen > before

        code, output = signalled(args, moment, kind)
        assert code == 0, output
        assert "repeat the command to go on" in output
        assert seen <= saved(workdir) <= seen + 2  # logged a moment after it is learnt
        assert saved(workdir) == steps_logged(workdir)
    output = finish(args)
    assert "resumed at stream batch" in output
    assert_same(workdir, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("pair", PAIRS)
def test_every_strategy_and_method_survives_kills(place, pair):
    """Three kills each: at a random moment, in a checkpoint write, in a probe."""
    quiet, workdir = place / f"{pair}-quiet", place / f"{pair}-killed"
    finish(command(place, quiet, RIDGE, variant=pair))
    args = command(place, workdir, RIDGE, variant=pair)
    for name, moment in moments(workdir, random.Random(pair)).items():
        assert killed(args, moment), f"the run ended before it could be killed {name}"
        drafts = list((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp"))
        print(
            f"{pair}: killed {name}, at batch {steps_logged(workdir)}, last saved "
            f"{saved(workdir)}, {len(drafts)} half-written"
        )
    finish(args)
    assert_same(workdir, quiet)


def test_a_finished_run_only_tells_its_results(place, undisturbed):
    before = {p: p.stat().st_mtime_ns for p in undisturbed.rglob("*") if p.is_file()}
    output = finish(command(place, undisturbed, RIDGE))
    assert "| climb" in output and "| random encoder" in output
    after = {p: p.stat().st_mtime_ns for p in undisturbed.rglob("*") if p.is_file()}
    assert before == after


@pytest.mark.slow
def test_another_config_is_refused(place, undisturbed):
    process = start(command(place, undisturbed, RIDGE, "--config.passes=3"))
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 2
    assert output.strip().count("\n") == 0
    assert "passes: 2 -> 3" in output
