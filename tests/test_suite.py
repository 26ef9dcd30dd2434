"""The whole suite through `launch.py`: every strategy with every method, on digits.

Each pair runs as a process of its own, learns the digits once, and must end with a
lower loss than it began with. Pairs that make no sense must say so.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import SSL

from ocssl_jax.methods import METHODS
from ocssl_jax.pairs import TWO_VIEWS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[1]
TWO_VIEW_METHODS = [m for m in METHODS if m not in ("mae", "supervised", "clip")]
PAIRS = [(s, m) for s in SSL for m in TWO_VIEW_METHODS]
PAIRS += [(s, "mae") for s in SSL if s not in TWO_VIEWS]
WINDOW = 10  # logged stream batches that a loss is averaged over

# How far the SSL loss must fall, as a share of where it stood when its rows were
# complete for the first time. A method's loss has its own scale and its own floor:
# NT-Xent over n rows starts near log(2n - 1) and BYOL's near 2, both far from 0, while
# SimSiam's starts near 0 and ends towards -1, so its fall is taken from 1.
FALL = 0.03


def launch(place: Path, strategy: str, method: str, *more: str):
    name = f"{strategy}-{method}"
    return subprocess.run(
        [
            sys.executable,
            str(ROOT / "launch.py"),
            f"--config={ROOT / 'tests' / 'suite_config.py'}:{name}",
            f"--workdir={place / name}",
            f"--config.stream.data_dir={place / 'data'}",
            *more,
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=800,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("suite")


def objective(line):
    """What the strategy minimises in place of the method's own loss, where it does."""
    return line.get("loss_contrast", line["loss_ssl"])


@pytest.mark.parametrize(("strategy", "method"), PAIRS)
def test_the_pair_runs_and_learns(place, strategy, method):
    done = launch(place, strategy, method)
    assert done.returncode == 0, done.stderr
    folder = place / f"{strategy}-{method}"
    lines = [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["loss"]) for line in lines)
    rows = max(line["rows"] for line in lines)
    complete = [objective(line) for line in lines if line["rows"] > 0.9 * rows]
    first, last = np.mean(complete[:WINDOW]), np.mean(complete[-WINDOW:])
    assert first - last > FALL * max(abs(first), 1.0), (first, last)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["strategy"] == strategy and summary["method"] == method
    assert 10 < summary["metrics"]["FA"]["mean"] <= 100  # ten classes: above chance


@pytest.mark.parametrize("strategy", sorted(TWO_VIEWS))
def test_a_pair_that_makes_no_sense_says_so(place, strategy):
    done = launch(place, strategy, "mae")
    assert done.returncode == 2
    assert "two views" in done.stderr and done.stderr.count("\n") == 1
    assert not (place / f"{strategy}-mae").exists()
