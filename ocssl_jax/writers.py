"""The log of a run: `metrics.jsonl`, `timing.jsonl`, and dashboards where asked for.

What a machine's speed decides has a file of its own, so that of two runs of the same
config the others are equal byte for byte.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ocssl_jax.boards import Board
from ocssl_jax.course import Course
from ocssl_jax.errors import UsageError
from ocssl_jax.workdir import write

Metrics = Mapping[str, Any]  # of a stream batch and a seed


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a file of the log; a last line cut short by a kill is left out.

    Raises:
      UsageError: if any other line is no JSON.
    """
    if not path.exists():
        return []
    records = []
    lines = path.read_text(errors="replace").splitlines(keepends=True)
    for i, line in enumerate(lines):
        try:
            record = json.loads(line)
            records.append(record | {"step": int(record["step"])})
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            if i == len(lines) - 1 and not line.endswith("\n"):
                break
            raise UsageError(
                f"{path}, line {i + 1}: damaged, no record; delete that line to go on "
                f"without it"
            ) from error
    return records


def record(
    step: int,
    samples: int,
    experience: int,
    per_seed: Sequence[Metrics | None],
) -> dict[str, Any]:
    """A line of `metrics.jsonl`: means over seeds, then every seed's value.

    What a draw told has a number a pass, a list in place of a number.

    Args:
      step: the stream batch, from 1.
      samples: stream images that a seed has met.
      experience: that the stream batch is of.
      per_seed: metrics of each seed, None of one that has stopped.
    """
    known = [metrics for metrics in per_seed if metrics]
    names = known[0] if known else ()
    own = {n: [_numbers(m[n]) if m else None for m in per_seed] for n in names}
    means = {n: np.mean([v for v in own[n] if v is not None], axis=0) for n in names}
    return {
        "step": step,
        "samples_seen": samples,
        "experience": experience,
        **{n: mean.tolist() for n, mean in means.items()},
        "per_seed": own,
    }


def _numbers(value: Any) -> Any:
    """A number, or a list of a number a pass."""
    return np.asarray(value, np.float64).tolist()


class Lines:
    """A file of records, one a line, each step once however often it is resumed."""

    def __init__(self, path: Path, *, step: int):
        """Open the file of a run that stands at `step`, dropping what came after it."""
        lines = [_line(r) for r in read(path) if r["step"] <= step]
        self.kept = len(lines)  # of those before `step`
        write(path, "".join(lines))
        self._file = path.open("a")

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record; numbers that are not finite become null."""
        self._file.write(_line(record))
        self._file.flush()

    def sync(self) -> None:
        """Have it all on disk, where a power cut spares it."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Finish writing."""
        self._file.close()


class History:
    """The log of a run that goes on."""

    def __init__(
        self, folder: Path, course: Course, *, step: int, boards: Sequence[Board]
    ):
        """Open the log of a run that stands at `step`, dropping what came after it."""
        self._course = course
        self._metrics = Lines(folder / "metrics.jsonl", step=step)
        self._timing = Lines(folder / "timing.jsonl", step=step)
        self._boards = boards
        if missing := course.lines(step) - self._metrics.kept:
            print(
                f"{folder / 'metrics.jsonl'} lacks {missing} of its "
                f"{course.lines(step)} lines up to stream batch {step}, which are not "
                f"learnt again"
            )

    def append(
        self, first: int, seen: Sequence[Sequence[Metrics | None]], *, rate: float
    ) -> None:
        """Write what a chunk's stream batches told, and how fast they were learnt.

        Args:
          first: stream batches learnt before.
          seen: metrics, [batch][seed].
          rate: stream images a second, all seeds.
        """
        for step, metrics in enumerate(seen, first + 1):
            if self._course.logged(step):
                samples = self._course.samples(step)
                experience = self._course.experience(step)
                self._append(record(step, samples, experience, metrics), rate)

    def _append(self, line: dict[str, Any], rate: float) -> None:
        step = line["step"]
        timing = {"step": step, "images_per_s": round(rate, 2)}
        self._metrics.append(line)
        self._timing.append(timing)
        numbers = {
            name: value
            for name, value in {**line, **timing}.items()
            if isinstance(value, int | float) and name != "step"
        }
        for board in self._boards:
            board.add(step, numbers)

    def sync(self) -> None:
        """Have it all on disk, where a power cut spares it."""
        self._metrics.sync()
        self._timing.sync()

    def close(self) -> None:
        """Finish writing."""
        self._metrics.close()
        self._timing.close()
        for board in self._boards:
            board.close()


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(_finite(record)) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
