"""What a run is worth: the accuracy matrix and the numbers read from it.

A[i, j] is the percentage of task i's test samples that a probe gets right after
experience j; NaN means not measured. The conventions are those of the OCSSL literature
(CLA, CLIMB); `measure` lists them. They presume that task j is learnt in experience j:
of a shuffled (iid) stream only FA and CA mean anything.

They are made for a probe over the classes of all tasks, the scope `joint`. Of the other
scopes (`ocssl_jax.scopes`) only what keeps its meaning is reported, see `DEFINED`:

* `separate`, a probe a task: all of them. FA and CA are then means over tasks, weighed
  by their test samples, of accuracies within a task; `forgetting_first` is what the
  released code calls forgetting.
* `upto`, a probe over the tasks met so far: CA_seen, and FA once all tasks were met.
  There are no accuracies on tasks to come; and an accuracy that falls as classes are
  added says that the problem became harder, not that anything was forgotten.
* `downstream`, one over another data set: FA and CA. It is no task of the stream.
* `iid`, any probe of a shuffled stream: FA and CA. It learns all tasks all the time.
* `classifier`, no probe but a supervised method's own head, asked about the tasks met
  so far: `accuracy` besides, and a `forgetting` that leaves the last task out, both as
  MIR (Aljundi et al. 2019) has them; no CA. `classifier_iid`, that of a shuffled
  stream, asked about all: accuracy, FA, CA.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ocssl_jax.accuracy import Record, to_matrix

METRICS = ("FA", "CA", "CA_seen", "forgetting")  # what probes are compared by
ALL = (*METRICS, "forgetting_first", "forward_transfer")
OWN = ("accuracy", "forgetting")  # what a method's own classifier is compared by
DEFINED = {  # metrics that mean something, by scope
    "joint": ALL,
    "separate": ALL,
    "upto": ("FA", "CA_seen"),
    "downstream": ("FA", "CA"),
    "iid": ("FA", "CA"),
    "classifier": (*OWN, "FA", "CA_seen", "forgetting_first"),
    "classifier_iid": ("accuracy", "FA", "CA"),
}


def usual(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The metrics that a table of such `values`, by name, shows."""
    return OWN if "accuracy" in values else METRICS


def overall(matrix: Any, sizes: Any) -> np.ndarray:
    """Joint accuracy over all test samples after each experience.

    Args:
      matrix: [t e] percent.
      sizes: [t] test samples a task; tasks of size 0 may be NaN in the matrix.

    Returns:
      [e] percent; NaN for an experience after which a task with samples is unmeasured.

    Raises:
      ValueError: if the shapes disagree or there are no test samples at all.
    """
    matrix, sizes = _door(matrix, sizes)
    tested = sizes > 0
    return sizes[tested] @ matrix[tested] / sizes.sum()


def seen(matrix: Any) -> np.ndarray:
    """[e] mean accuracy of the tasks i <= j met by the end of experience j, unweighted.

    Raises:
      ValueError: if `matrix` is not of shape [t e].
    """
    matrix = _matrix(matrix)
    return _nanmean(np.where(_is_seen(matrix), matrix, np.nan), axis=0)


def course(matrix: Any, sizes: Any) -> np.ndarray:
    """[e] accuracy over the stream: `overall`, or `seen` where that is known oftener.

    A method's own classifier is asked about the tasks met so far alone.

    Args:
      matrix: [t e] percent.
      sizes: [t] test samples a task.
    """
    all_, met = overall(matrix, sizes), seen(matrix)
    return met if np.isfinite(met).sum() > np.isfinite(all_).sum() else all_


def unseen(matrix: Any) -> np.ndarray:
    """[e] mean accuracy of the tasks i > j still to come, NaN when there are none.

    Raises:
      ValueError: if `matrix` is not of shape [t e].
    """
    matrix = _matrix(matrix)
    return _nanmean(np.where(_is_seen(matrix), np.nan, matrix), axis=0)


def measure(matrix: Any, sizes: Any, *, scope: str = "joint") -> dict[str, float]:
    """Every metric of one accuracy matrix, in percent; NaN where it is undefined.

    With j over the probed experiences, `last` the last of them and i over tasks:

    * `FA`          joint accuracy over all test samples after `last`;
    * `CA`          mean_j of the joint accuracy over all test samples;
    * `CA_seen`     mean_j mean_{i<=j} A[i,j], tasks weighed alike;
    * `forgetting`  mean_i (max_{j>=i} A[i,j] - A[i,last]);
    * `forgetting_first`  mean_i (A[i,i] - A[i,last]), over tasks probed when learnt;
    * `forward_transfer`  mean_j mean_{i>j} A[i,j], the accuracy on tasks to come.

    Forgetting is over the tasks met by `last`; its last task contributes 0. Of a
    `classifier`

    * `accuracy`    mean_i A[i,last], tasks weighed alike;
    * `forgetting`  the same mean over the tasks learnt before the last one.

    Args:
      matrix: [t e] percent, NaN where not measured.
      sizes: [t] test samples a task.
      scope: which tasks shared a probe, a key of `DEFINED`.

    Raises:
      ValueError: if the shapes disagree or nothing was measured.
    """
    matrix, sizes = _door(matrix, sizes)
    probed = np.flatnonzero(~np.isnan(matrix).all(axis=0))
    if not probed.size:
        raise ValueError("the accuracy matrix holds no measurement")
    joint, final = overall(matrix, sizes), matrix[:, probed[-1]]
    first = np.full(len(matrix), np.nan)
    diagonal = np.diagonal(matrix)
    first[: len(diagonal)] = diagonal
    lost = dropped(matrix)
    if scope == "classifier":
        lost = lost[: probed[-1]]
    values = {
        "accuracy": float(_nanmean(final)),
        "FA": float(joint[probed[-1]]),
        "CA": float(_nanmean(joint)),
        "CA_seen": float(_nanmean(seen(matrix))),
        "forgetting": float(_nanmean(lost)),
        "forgetting_first": float(_nanmean(first - final)),
        "forward_transfer": float(_nanmean(unseen(matrix))),
    }
    defined = DEFINED[scope]
    shown = values if scope.startswith("classifier") else ALL
    return {name: values[name] if name in defined else np.nan for name in shown}


def dropped(matrix: np.ndarray) -> np.ndarray:
    """Best accuracy of each task since it was learnt, minus the final one.

    Args:
      matrix: [t e] percent, NaN where not measured, measured somewhere.

    Returns:
      [t] percent, 0 of the task learnt last; NaN of tasks that were not met.
    """
    known = ~np.isnan(matrix)
    best = np.max(np.where(_is_seen(matrix) & known, matrix, -np.inf), axis=1)
    best = np.where(np.isfinite(best), best, np.nan)
    return best - matrix[:, np.flatnonzero(known.any(axis=0))[-1]]


def summarise(
    records: Iterable[Record], *, probe: str, sizes: Sequence[int], scope: str = "joint"
) -> dict[str, dict[str, Any]]:
    """The `metrics` part of `summary.json`: each metric's mean and spread over seeds.

    Args:
      records: accuracy of every seed; only those of `probe` are read.
      probe: name of the probe.
      sizes: [t] test samples a task.
      scope: which tasks shared a probe, a key of `DEFINED`.

    Returns:
      `{metric: {"mean", "std", "per_seed"}}` in percent, `per_seed` in the
      order in which the records name the seeds.
      `std` is the sample standard deviation; it, like any undefined value, is None
      (JSON null) where it does not exist, as with a single seed.

    Raises:
      ValueError: if the probe has no records.
    """
    records = [r for r in records if r.probe == probe]
    seeds = list(dict.fromkeys(r.seed for r in records))
    if not seeds:
        raise ValueError(f"no accuracy is recorded for probe {probe!r}")
    n = len(sizes)
    rows = [
        measure(
            to_matrix(records, seed=seed, probe=probe, n_tasks=n), sizes, scope=scope
        )
        for seed in seeds
    ]
    return {name: spread([row[name] for row in rows]) for name in rows[0]}


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and sample standard deviation of `values` [s], None where undefined."""
    known = np.asarray([v for v in values if not np.isnan(v)], np.float64)
    return {
        "mean": float(known.mean()) if len(known) else None,
        "std": float(known.std(ddof=1)) if len(known) > 1 else None,
        "per_seed": [None if np.isnan(v) else float(v) for v in values],
    }


def _matrix(matrix: Any) -> np.ndarray:
    matrix = np.asarray(matrix, np.float64)
    if matrix.ndim != 2:
        raise ValueError(
            f"an accuracy matrix is [tasks experiences], got {matrix.shape}"
        )
    return matrix


def _door(matrix: Any, sizes: Any) -> tuple[np.ndarray, np.ndarray]:
    matrix, sizes = _matrix(matrix), np.asarray(sizes, np.float64)
    if sizes.shape != matrix.shape[:1] or (sizes < 0).any() or not sizes.sum():
        raise ValueError(
            f"sizes must give the test samples of each of {len(matrix)} tasks, "
            f"at least one in all, got {sizes.tolist()}"
        )
    return matrix, sizes


def _is_seen(matrix: np.ndarray) -> np.ndarray:
    """[t e] bool: task i has been learnt by the end of experience j."""
    tasks, experiences = matrix.shape
    return np.arange(tasks)[:, None] <= np.arange(experiences)[None, :]


def _nanmean(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Mean of what is known; NaN, without a warning, where nothing is."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(axis=axis)
    count = known.sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
