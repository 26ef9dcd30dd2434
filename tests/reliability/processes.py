"""Real processes of `launch.py` on runs of `kill_config`: started, watched, killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from ocssl_jax.checkpoint import Checkpoints

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tests" / "kill_config.py"
TIMEOUT = 240  # seconds a launched process may take
SAVES = "checkpoints"


def command(place: Path, workdir: Path, *more: str, variant: str = "") -> list[str]:
    """The command line of a run whose data lie in `place`."""
    return [
        sys.executable,
        str(ROOT / "launch.py"),
        f"--config={CONFIG}" + (f":{variant}" if variant else ""),
        f"--workdir={workdir}",
        f"--config.stream.data_dir={place / 'data'}",
        *more,
    ]


def start(args: list[str]) -> subprocess.Popen:
    """The process, with whatever it says in one pipe."""
    return subprocess.Popen(
        args,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(args: list[str]) -> str:
    """What a process says that must end well."""
    process = start(args)
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, output
    return output


def signalled(args: list[str], moment: Callable[[], bool], kind: int) -> tuple:
    """Send a signal once `moment()` holds; exit code and words of the process.

    The exit code is None if the process ended before the moment came.
    """
    process = start(args)
    end = time.monotonic() + TIMEOUT
    try:
        while time.monotonic() < end and process.poll() is None:
            if moment():
                process.send_signal(kind)
                output, _ = process.communicate(timeout=TIMEOUT)
                return process.returncode, output
            time.sleep(0.002)
    finally:
        process.kill()
    return None, process.communicate()[0]


def killed(args: list[str], moment: Callable[[], bool]) -> bool:
    """Whether SIGKILL met the process under way."""
    return signalled(args, moment, signal.SIGKILL)[0] == -signal.SIGKILL


def steps_logged(workdir: Path) -> int:
    """Stream batches in the log, one a line."""
    path = workdir / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def saved(workdir: Path) -> int:
    """The newest checkpoint, 0 if there is none."""
    return max(
        (int(p.name) for p in (workdir / SAVES).glob("[0-9]*") if p.name.isdecimal()),
        default=0,
    )


def moments(workdir: Path, rng: random.Random) -> dict[str, Callable[[], bool]]:
    """Name -> when to kill; each is asked again and again while the run goes on."""

    def writing() -> bool:
        drafts = (workdir / SAVES).glob("*.orbax-checkpoint-tmp")
        return any(int(p.name.partition(".")[0]) > saved(workdir) for p in drafts)

    def probing() -> bool:
        # Experience 1 ends with stream batch 8; its rows are not there yet.
        table = workdir / "accuracy.csv"
        probed = table.exists() and "ridge,1," in table.read_text()
        return steps_logged(workdir) >= 8 and not probed

    first, pause = rng.randint(1, 4), rng.uniform(0, 0.05)

    def early() -> bool:
        due = steps_logged(workdir) >= first
        time.sleep(pause if due else 0)
        return due

    return {
        f"{pause:.3f} s after batch {first}": early,
        "inside a checkpoint write": writing,
        "inside a probe": probing,
    }


def final_leaves(workdir: Path) -> list[np.ndarray]:
    """Every array of the last checkpoint, restored without a template."""
    import orbax.checkpoint as ocp

    checkpoints = Checkpoints(workdir / SAVES, keep=2)
    step = checkpoints.latest()
    checkpoints.close()
    path = (workdir / SAVES / str(step) / "states").absolute()
    tree = ocp.StandardCheckpointer().restore(path)
    is_key = lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    return [
        np.asarray(jax.random.key_data(x) if is_key(x) else x)
        for x in jax.tree.leaves(tree)
    ]


def assert_same(ours: Path, theirs: Path) -> None:
    """Two finished runs left the same bits, but for what a clock says."""
    for a, b in zip(final_leaves(ours), final_leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    tables = sorted(p.relative_to(theirs) for p in theirs.rglob("*.csv"))
    tensors = sorted(p.relative_to(theirs) for p in theirs.rglob("*.safetensors"))
    assert len(tables) == 3 and len(tensors) == 2 * (3 + 1)  # seeds; experiences, final
    for name in ("metrics.jsonl", *tables, *tensors):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    told = [json.loads((w / "summary.json").read_text()) for w in (ours, theirs)]
    for summary in told:
        del summary["time"], summary["throughput"]
    assert told[0] == told[1]
    steps = [
        [json.loads(x)["step"] for x in (w / "timing.jsonl").open()]
        for w in (ours, theirs)
    ]
    assert steps[0] == steps[1]
