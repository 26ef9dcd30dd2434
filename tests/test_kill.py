"""A killed run, repeated, ends with the same bits as one that was never disturbed.

Real processes of `launch.py` on the digits with a small network, killed with SIGKILL at
chosen moments: early, amid the stream, inside a checkpoint write, inside a probe.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from ocssl_jax.checkpoint import Checkpoints

ROOT = Path(__file__).parents[1]
TIMEOUT = 240  # seconds a launched process may take


def command(workdir: Path, data: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        str(ROOT / "launch.py"),
        f"--config={ROOT / 'tests' / 'kill_config.py'}",
        f"--workdir={workdir}",
        f"--config.stream.data_dir={data}",
        *more,
    ]


def start(args: list[str], cache: Path) -> subprocess.Popen:
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return subprocess.Popen(
        args,
        env=env,
        cwd=cache.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(args: list[str], cache: Path) -> str:
    process = start(args, cache)
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, output
    return output


def kill_when(args: list[str], cache: Path, moment) -> bool:
    """Kill the process once `moment()` holds; False if it ended before that."""
    process = start(args, cache)
    end = time.monotonic() + TIMEOUT
    try:
        while time.monotonic() < end and process.poll() is None:
            if moment():
                process.send_signal(signal.SIGKILL)
                process.wait(timeout=30)
                return True
            time.sleep(0.002)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
    return False


def steps_logged(workdir: Path) -> int:
    path = workdir / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def moments(workdir: Path, rng: random.Random) -> dict:
    """Name -> when to kill; each is asked again and again while the run goes on."""
    saves = workdir / "checkpoints"

    def writing() -> bool:
        return any(saves.glob("*.orbax-checkpoint-tmp"))

    def probing() -> bool:
        # Experience 1 ends with stream batch 8; its rows are not there yet.
        table = workdir / "accuracy.csv"
        probed = table.exists() and "linear,1," in table.read_text()
        return steps_logged(workdir) >= 8 and not probed

    first, later = rng.randint(1, 4), rng.randint(7, 10)
    return {
        f"after {first} batches": lambda: steps_logged(workdir) >= first,
        "inside a checkpoint write": writing,
        "inside a probe": probing,
        f"after {later} batches": lambda: steps_logged(workdir) >= later,
    }


def history(workdir: Path) -> list[dict]:
    """The log without the one field that tells the machine's speed."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        del record["images_per_s"]
    return records


def final_leaves(workdir: Path) -> list[np.ndarray]:
    """Every array of the last checkpoint, restored without a template."""
    import orbax.checkpoint as ocp

    checkpoints = Checkpoints(workdir / "checkpoints", keep=2)
    step = checkpoints.latest()
    checkpoints.close()
    path = (workdir / "checkpoints" / str(step) / "states").absolute()
    tree = ocp.StandardCheckpointer().restore(path)
    is_key = lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    return [
        np.asarray(jax.random.key_data(x) if is_key(x) else x)
        for x in jax.tree.leaves(tree)
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kill")
    (folder / "cache").mkdir()
    return folder


@pytest.fixture(scope="module")
def undisturbed(place) -> Path:
    workdir = place / "undisturbed"
    finish(command(workdir, place / "data"), place / "cache")
    return workdir


@pytest.mark.timeout(900)
def test_killed_runs_end_with_the_same_bits(place, undisturbed):
    cache, workdir = place / "cache", place / "killed"
    args = command(workdir, place / "data")
    hit = [
        kill_when(args, cache, moment)
        for moment in moments(workdir, random.Random(7)).values()
    ]
    assert all(hit), "every kill must have met a run that was under way"
    output = finish(args, cache)
    assert "resumed at stream batch" in output
    for a, b in zip(final_leaves(undisturbed), final_leaves(workdir), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert history(workdir) == history(undisturbed)
    for name in ("accuracy.csv", "validation.csv", "baselines/random/accuracy.csv"):
        assert (workdir / name).read_bytes() == (undisturbed / name).read_bytes()
    ours, theirs = (
        json.loads((w / "summary.json").read_text()) for w in (workdir, undisturbed)
    )
    assert ours["metrics"] == theirs["metrics"]
    assert ours["validation"] == theirs["validation"]
    tensors = [p.relative_to(undisturbed) for p in undisturbed.rglob("*.safetensors")]
    assert len(tensors) == 2 * (
        3 + 1
    )  # seeds; after each experience, and the final one
    for name in tensors:
        assert (workdir / name).read_bytes() == (undisturbed / name).read_bytes()


@pytest.mark.timeout(600)
def test_sigterm_saves_and_exits_0(place, undisturbed):
    cache, workdir = place / "cache", place / "terminated"
    args = command(workdir, place / "data")
    process = start(args, cache)
    while steps_logged(workdir) < 5:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, output
    assert "repeat the command to go on" in output
    stopped = max(int(p.name) for p in (workdir / "checkpoints").glob("[0-9]*"))
    assert stopped == steps_logged(workdir)
    finish(args, cache)
    assert history(workdir) == history(undisturbed)


def test_a_finished_run_only_tells_its_results(place, undisturbed):
    before = {p: p.stat().st_mtime_ns for p in undisturbed.rglob("*") if p.is_file()}
    output = finish(command(undisturbed, place / "data"), place / "cache")
    assert "| climb" in output and "| random encoder" in output
    after = {p: p.stat().st_mtime_ns for p in undisturbed.rglob("*") if p.is_file()}
    assert before == after


def test_another_config_is_refused(place, undisturbed):
    args = command(undisturbed, place / "data", "--config.passes=3")
    process = start(args, place / "cache")
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 2
    assert output.strip().count("\n") == 0
    assert "passes: 2 -> 3" in output
