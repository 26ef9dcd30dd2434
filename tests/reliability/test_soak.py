"""Twenty thousand stream batches: nothing grows but the log."""

import json
import resource
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from kill_config import get_config

from ocssl_jax import dotted, experiment, settings

BATCHES, LOGGED = 20_000, 100


def config_for(place):
    config = get_config("er-simclr")
    for name, value in {
        "stream.data_dir": str(place / "data"),
        "stream.kind": "iid",
        "stream.order": (),
        "stream.epochs": 100,
        "stream.batch_size": 4,
        "stream.limit": BATCHES,
        "strategy.replay_size": 6,
        "strategy.memory_size": 24,
        "backbone.width": 4,
        "method.projection": 4,
        "seeds": (0,),
        "passes": 1,
        "baselines": (),
        "probe.names": (),
        "checkpoint.every": 1000,
        "checkpoint.encoders": False,
        "log.every": LOGGED,
    }.items():
        dotted.put(config, name, value)
    return settings.resolve(config, {})


def resident() -> int:
    """Bytes of this process's memory that are in use now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


class Watch(threading.Thread):
    """Notes, each time the log has grown, what memory and disk hold."""

    def __init__(self, folder: Path):
        super().__init__(daemon=True)
        self.folder, self.done, self.seen = folder, threading.Event(), []

    def run(self):
        log = self.folder / "metrics.jsonl"
        while not self.done.wait(0.05):
            lines = log.read_text().count("\n") if log.exists() else 0
            if lines and (not self.seen or lines > self.seen[-1][0]):
                self.seen.append(
                    (lines, resident(), self.arrays(), time.process_time())
                )

    def arrays(self) -> int:
        """Arrays alive on the device, which on a CPU is the same memory."""
        return len(jax.live_arrays())


def slope(steps, values) -> float:
    """Growth over the second half of the run, as a share of the middle value."""
    half = len(steps) // 2
    x, y = np.asarray(steps[half:], float), np.asarray(values[half:], float)
    return float(np.polyfit(x, y, 1)[0] * (x[-1] - x[0]) / np.median(y))


def size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_long_run_grows_in_nothing(tmp_path, capsys):
    folder = tmp_path / "run"
    watch = Watch(folder)
    watch.start()
    experiment.run(config_for(tmp_path), folder, {})
    watch.done.set()
    watch.join()
    steps, memory, arrays, clock = zip(*watch.seen, strict=True)
    assert len(steps) > 50
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == BATCHES // LOGGED
    growth = slope(steps, memory)
    # Of this process's own seconds, for other programs share the machine.
    spent = np.diff(clock) / np.diff(steps)  # seconds a logged line
    early, late = np.median(spent[5:25]), np.median(spent[-20:])
    saved = sorted((folder / "checkpoints").glob("[0-9]*"))
    few = lambda seen: np.quantile(seen, 0.1)
    with capsys.disabled():
        print(
            f"{BATCHES} batches, {1000 * np.median(spent) / LOGGED:.2f} ms of CPU time "
            f"each (last over first: {late / early:.2f}); "
            f"{memory[-1] / 2**20:.0f} MiB, grown by {100 * growth:.2f} % over the "
            f"second half; {few(arrays):.0f} to {max(arrays)} arrays; files "
            f"{size(folder) / 2**20:.2f} MiB"
        )
    assert growth < 0.02
    # How many a step has under way depends on when one looks; few are there between
    # steps. Not the fewest: a run that ends lets all of them go.
    quarter = len(arrays) // 4
    assert few(arrays[-quarter:]) <= few(arrays[quarter : 2 * quarter])
    assert late < 2 * early  # a step that slows down would be seen
    assert len(saved) == 2  # checkpoint.keep
    assert size(saved[1]) < 1.5 * size(saved[0])  # compressed, so not quite equal
    log = sum((folder / n).stat().st_size for n in ("metrics.jsonl", "timing.jsonl"))
    assert log < 1000 * len(lines)
    rest = size(folder) - log - sum(map(size, saved))
    assert rest < 3 * 2**20  # config, report, final encoder: written once
    assert json.loads(lines[-1])["samples_seen"] >= BATCHES * 3
