"""Two real processes, one run: the same results as one process, whoever resumes it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from devices import xla_flags
from kill_config import get_config

from ocssl_jax import experiment, hosts, settings

ROOT = Path(__file__).parents[1]
LIMIT = 200  # seconds that any process may take


FIELDS = {
    "optimizer.learning_rate": 0.001,  # lest it blows rounding up
    "strategy.name": "er",  # compiles fastest of those with a memory
    "baselines": (),
    "probe.names": ("ridge",),
}
ROWS = {"mesh.seed": 1}  # all devices share out the rows of each batch, none the seeds


def here(place, workdir, more=()):
    """The run in `workdir`, in this process, with `more` fields."""
    config, fields = get_config(), FIELDS | dict(more)
    for name, value in (fields | {"stream.data_dir": str(place / "data")}).items():
        settings.put(config, name, value)
    experiment.run(settings.resolve(config, fields), workdir, fields)


def start(place, workdir, *more, devices=1, program=ROOT / "launch.py"):
    """Launch one process of the run in `workdir`."""
    return subprocess.Popen(
        [
            sys.executable,
            str(program),
            f"--config={ROOT / 'tests' / 'kill_config.py'}",
            f"--config.stream.data_dir={place / 'data'}",
            *(f"--config.{name}={value}" for name, value in FIELDS.items()),
            f"--workdir={workdir}",
            *more,
        ],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests"))),
            "XLA_FLAGS": xla_flags(devices),
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # as in this process
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(*processes, code=0):
    """Outputs of processes that must end with that exit code, or be killed.

    What they said well, or what they say of their failure.
    """
    try:
        outs = [p.communicate(timeout=LIMIT) for p in processes]
    finally:
        for p in processes:
            p.kill()
    assert [p.returncode for p in processes] == [code] * len(processes), outs
    return [err if code else out for out, err in outs]


def free_port():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def two(place, workdir, *more, **kw):
    where = f"--coordinator=localhost:{free_port()}"
    return [
        start(place, workdir, where, "--processes=2", f"--process={i}", *more, **kw)
        for i in range(2)
    ]


def log(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Workdirs: of one process; of two, stopped; of those that took that one up."""
    place = tmp_path_factory.mktemp("hosts")
    rows = [f"--config.{name}={value}" for name, value in ROWS.items()]
    here(place, place / "one", ROWS)
    processes = two(place, place / "two", *rows)
    end = time.monotonic() + LIMIT
    while not (place / "two" / "checkpoints" / "3").is_dir():
        if time.monotonic() > end or any(p.poll() is not None for p in processes):
            break
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)  # either may be told; both save and go
    stopped = ended(*processes)
    for name in ("by_one", "by_four_devices"):
        shutil.copytree(place / "two", place / name)
    here(place, place / "by_one", ROWS)
    ended(start(place, place / "by_four_devices", *rows, devices=4))
    return place, stopped


@pytest.mark.timeout(4 * LIMIT)
def test_a_signal_to_one_process_stops_and_saves_both(runs):
    place, (said, silent) = runs
    assert "stopped after stream batch" in said
    step = log(place / "two")[-1]["step"]
    assert 3 <= step < 12 and (place / "two" / "checkpoints" / str(step)).is_dir()
    assert not (place / "two" / "summary.json").exists()
    assert "experience" not in silent  # only the first process talks


@pytest.mark.timeout(4 * LIMIT)
@pytest.mark.parametrize("resumed", ["by_one", "by_four_devices"])
def test_one_process_goes_on_where_two_stopped(runs, resumed):
    place, _ = runs
    ours, theirs = log(place / resumed), log(place / "one")
    assert [line["step"] for line in ours] == list(range(1, 13))
    for line, other in zip(ours, theirs, strict=True):
        assert line["rows"] == other["rows"]
        for name in ("loss", "gradient_norm", "parameter_norm"):
            values = (log_line["per_seed"][name] for log_line in (line, other))
            np.testing.assert_allclose(*values, rtol=1e-3, atol=1e-4)
    rows, others = (
        np.loadtxt(place / run / "accuracy.csv", delimiter=",", skiprows=1, usecols=4)
        for run in (resumed, "one")
    )
    # A rounding may move an image over a boundary, of some 70 that a task is tested on.
    np.testing.assert_allclose(rows, others, atol=3)


@pytest.mark.parametrize(
    ("variables", "devices"),
    [
        ({}, None),
        ({"SLURM_STEP_TASKS_PER_NODE": "1(x2)"}, []),
        ({"SLURM_TASKS_PER_NODE": "1"}, []),
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x2)", "SLURM_TASKS_PER_NODE": "1"}, None),
        ({"SLURM_STEP_TASKS_PER_NODE": "1,8"}, None),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, []),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "8"}, None),
        ({"SLURM_TASKS_PER_NODE": "1", "JAX_LOCAL_DEVICE_IDS": "0,1"}, None),
    ],
)
def test_the_only_task_of_a_node_takes_all_of_its_devices(
    variables, devices, monkeypatch
):
    for name in ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    seen = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a: seen.append(a))
    hosts.join("host:1", 2, 0)
    assert seen == [("host:1", 2, 0, devices)]


BROKEN = {"program": ROOT / "tests" / "reliability" / "breaking.py"}
PLAIN = "--config.strategy.name=none"  # compiles in half the time


@pytest.mark.slow
@pytest.mark.timeout(2 * LIMIT)
def test_a_broken_seed_stops_in_both_and_the_other_goes_on(tmp_path):
    """Each process learns one of the seeds; what stops one is known to both."""
    said, silent = ended(*two(tmp_path, tmp_path / "run", **BROKEN))
    assert said.count("seed 1: this seed stops, the others go on") == 1
    assert "this seed stops" not in silent
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["seeds"] == [0] and summary["stopped"]["1"]["step"] == 6
    for line in log(tmp_path / "run"):
        sound, broken = line["per_seed"]["loss"]
        assert np.isfinite(sound) and (broken is None) == (line["step"] >= 6)
    here(tmp_path, tmp_path / "whole")
    for ours, theirs in zip(
        log(tmp_path / "run"), log(tmp_path / "whole"), strict=True
    ):
        losses = (x["per_seed"]["loss"][0] for x in (ours, theirs))
        np.testing.assert_allclose(*losses, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(2 * LIMIT)
def test_if_no_seed_is_left_both_say_so_and_end(tmp_path):
    """The rows of the only seed are shared out."""
    more = (PLAIN, "--config.seeds=(1,)")
    for said in ended(*two(tmp_path, tmp_path / "run", *more, **BROKEN), code=1):
        (line,) = (x for x in said.splitlines() if x.startswith("launch.py"))
        assert "at stream batch 6, seed 1; the last good checkpoint is 4" in line


@pytest.mark.slow
@pytest.mark.timeout(2 * LIMIT)
def test_what_only_the_first_one_writes_fails_in_both(tmp_path):
    folder = tmp_path / "run"
    processes, end = two(tmp_path, folder, PLAIN), time.monotonic() + LIMIT
    while not (folder / "config.json").exists() and time.monotonic() < end:
        time.sleep(0.01)
    (folder / "encoders").write_text("where a folder has to be")
    for said in ended(*processes, code=1):
        (line,) = (x for x in said.splitlines() if x.startswith("launch.py"))
        assert str(folder / "encoders") in line and "is kept" in line
