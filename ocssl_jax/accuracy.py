"""Accuracy by task: from predictions to the rows of `accuracy.csv` to a matrix.

Only accuracies of single tasks are kept, in percent. With the tasks' test sizes w every
joint accuracy follows, sum_i w_i A[i, j] / sum_i w_i, so the file needs no extra row
for 'all' and its task column stays an integer.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ocssl_jax import workdir
from ocssl_jax.errors import UsageError

FIELDS = ("seed", "probe", "after_experience", "task", "accuracy")


class Record(NamedTuple):
    """One row of `accuracy.csv`."""

    seed: int
    probe: str
    after_experience: int
    task: int
    accuracy: float  # percent


def task_accuracy(predicted: Any, label: Any, task: Any, *, n_tasks: int) -> np.ndarray:
    """Percentage of right predictions of each task.

    Args:
      predicted: [n] labels a probe gives the test samples of all tasks.
      label: [n] true labels.
      task: [n] int, the task each sample belongs to.
      n_tasks: number of tasks t.

    Returns:
      [t] float64 percent, NaN for a task without test samples.

    Raises:
      ValueError: if the lengths differ or a task is out of range.
    """
    predicted, label, task = np.asarray(predicted), np.asarray(label), np.asarray(task)
    if not predicted.shape == label.shape == task.shape:
        raise ValueError(
            "predictions, labels and tasks must have one entry a sample each, got "
            f"shapes {predicted.shape}, {label.shape}, {task.shape}"
        )
    if task.size and not 0 <= task.min() <= task.max() < n_tasks:
        raise ValueError(f"tasks must be in 0..{n_tasks - 1}, got {np.unique(task)}")
    right = np.bincount(task, weights=predicted == label, minlength=n_tasks)
    total = np.bincount(task, minlength=n_tasks)
    return np.where(total > 0, 100.0 * right / np.maximum(total, 1), np.nan)


def to_records(
    accuracy: Any, *, seed: int, probe: str, after_experience: int
) -> list[Record]:
    """Rows of `accuracy.csv` for one probing: `accuracy` [t] percent, NaN left out."""
    return [
        Record(seed, probe, after_experience, task, float(value))
        for task, value in enumerate(accuracy)
        if not np.isnan(value)
    ]


def of_seeds(records: Iterable[Record], seeds: Iterable[int]) -> list[Record]:
    """The records of `seeds`; those of a seed that has stopped end amid the stream."""
    wanted = set(seeds)
    return [record for record in records if record.seed in wanted]


def hold(records: Iterable[Record], *, experiences: int) -> list[Record]:
    """The records of an unchanging encoder, as if probed after every experience.

    This makes a baseline that is probed once, such as a random encoder, comparable: it
    is then a flat curve and has every metric.

    Args:
      records: of a single probing a seed and probe.
      experiences: number of experiences of the run it is compared with.
    """
    return [r._replace(after_experience=j) for r in records for j in range(experiences)]


def to_matrix(
    records: Iterable[Record], *, seed: int, probe: str, n_tasks: int
) -> np.ndarray:
    """The accuracy matrix [t e] percent of one seed and probe; NaN where unmeasured.

    A repeated row counts once, the last one; e is one more than the last experience.

    Raises:
      ValueError: if there is no such record.
      UsageError: if a record names a task out of range.
    """
    chosen = [r for r in records if r.seed == seed and r.probe == probe]
    if not chosen:
        raise ValueError(f"no accuracy is recorded for seed {seed}, probe {probe!r}")
    matrix = np.full((n_tasks, 1 + max(r.after_experience for r in chosen)), np.nan)
    for r in chosen:
        if not 0 <= r.task < n_tasks or r.after_experience < 0:
            raise UsageError(
                f"{r} is outside {n_tasks} tasks and experiences 0, 1, ..."
            )
        matrix[r.task, r.after_experience] = r.accuracy
    return matrix


def parse(rows: Iterable[Mapping[str, Any]]) -> list[Record]:
    """Records from `csv.DictReader` rows or from dicts with the names of `FIELDS`.

    Raises:
      ValueError: if a column is missing, or not a number where one is due, or no task
        or experience has this one.
    """
    records = []
    for row in rows:
        if missing := [name for name in FIELDS if row.get(name) is None]:
            raise ValueError(f"an accuracy row needs {list(FIELDS)}, lacks {missing}")
        seed, probe, experience, task, accuracy = (row[name] for name in FIELDS)
        record = Record(
            int(seed), str(probe), int(experience), int(task), float(accuracy)
        )
        if record.task < 0 or record.after_experience < 0:
            raise ValueError(f"tasks and experiences count from 0, got {record}")
        records.append(record)
    return records


def write(path: Path, records: Iterable[Record]) -> None:
    """Replace `accuracy.csv`, or a file of its kind."""
    lines = [",".join(FIELDS)]
    # In full: a resumed run computes its summary from what it reads here.
    lines += [",".join(map(str, record)) for record in records]
    workdir.write(path, "\n".join(lines) + "\n")


def read(
    path: Path, *, tasks: int | None = None, remedy: str = "delete it and repeat"
) -> list[Record]:
    """The records of an `accuracy.csv`.

    Args:
      path: the file.
      tasks: how many there are, where that is known.
      remedy: what to do about a damaged file.

    Raises:
      UsageError: if the file is damaged.
    """
    try:
        text = path.read_text()
        if not text.endswith("\n"):  # a number cut short would be another number
            raise ValueError("its last line is cut short")
        records = parse(csv.DictReader(io.StringIO(text)))
        for record in records:
            if tasks is not None and record.task >= tasks:
                raise ValueError(f"{record} of {tasks} tasks")
    except ValueError as error:
        raise UsageError(f"{path} is damaged ({error}); {remedy}") from error
    return records
