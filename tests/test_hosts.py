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

import numpy as np
import pytest
from devices import xla_flags
from kill_config import get_config

from ocssl_jax import experiment, settings

ROOT = Path(__file__).parents[1]
LIMIT = 200  # seconds that any process may take


FIELDS = {
    "optimizer.learning_rate": 0.001,  # lest it blows rounding up
    "strategy.name": "er",  # compiles fastest of those with a memory
    "baselines": (),
    "probe.names": ("ridge",),
}


def here(place, workdir):
    """The run in `workdir`, in this process."""
    config = get_config()
    for name, value in (FIELDS | {"stream.data_dir": str(place / "data")}).items():
        settings.put(config, name, value)
    experiment.run(settings.resolve(config, FIELDS), workdir, FIELDS)


def start(place, workdir, *more, devices=1):
    """Launch one process of the run in `workdir`."""
    return subprocess.Popen(
        [
            sys.executable,
            str(ROOT / "launch.py"),
            f"--config={ROOT / 'tests' / 'kill_config.py'}",
            f"--config.stream.data_dir={place / 'data'}",
            *(f"--config.{name}={value}" for name, value in FIELDS.items()),
            f"--workdir={workdir}",
            *more,
        ],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "XLA_FLAGS": xla_flags(devices),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(*processes):
    """Outputs of processes that must end well, or be killed."""
    try:
        outs = [p.communicate(timeout=LIMIT) for p in processes]
    finally:
        for p in processes:
            p.kill()
    assert [p.returncode for p in processes] == [0] * len(processes), outs
    return [out for out, _ in outs]


def free_port():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def two(place, workdir, **kw):
    where = f"--coordinator=localhost:{free_port()}"
    return [
        start(place, workdir, where, "--processes=2", f"--process={i}", **kw)
        for i in range(2)
    ]


def log(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Workdirs: of one process; of two, stopped; of those that took that one up."""
    place = tmp_path_factory.mktemp("hosts")
    here(place, place / "one")
    processes = two(place, place / "two")
    end = time.monotonic() + LIMIT
    while not (place / "two" / "checkpoints" / "3").is_dir():
        if time.monotonic() > end or any(p.poll() is not None for p in processes):
            break
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)  # either may be told; both save and go
    stopped = ended(*processes)
    for name in ("by_one", "by_four_devices"):
        shutil.copytree(place / "two", place / name)
    here(place, place / "by_one")
    ended(start(place, place / "by_four_devices", devices=4))
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
        for name in ("loss", "parameter_norm"):
            values = (log_line["per_seed"][name] for log_line in (line, other))
            np.testing.assert_allclose(*values, rtol=1e-3, atol=1e-4)
    rows, others = (
        np.loadtxt(place / run / "accuracy.csv", delimiter=",", skiprows=1, usecols=4)
        for run in (resumed, "one")
    )
    # A rounding may move an image over a boundary, of some 70 that a task is tested on.
    np.testing.assert_allclose(rows, others, atol=3)
