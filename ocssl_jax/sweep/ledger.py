"""What is known of a sweep's points: read from their folders, kept in two files.

A point's own folder says whether it has finished and what it is worth. Only a failure
leaves no trace there, so `sweep.json` remembers it; both files can be thrown away at no
other loss.
"""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ocssl_jax import workdir
from ocssl_jax.errors import UsageError
from ocssl_jax.labels import shown
from ocssl_jax.report.table import Row, table
from ocssl_jax.sweep.grid import Point

RULE = "highest mean over seeds of the final validation accuracy, {} probe"


class Plan(NamedTuple):
    """A sweep as it was asked for."""

    folder: Path
    source: str  # config file, FILE[:VARIANT]
    fixed: tuple[str, ...]  # --config.FIELD=VALUE flags of every point
    points: Mapping[str, Point]  # by name of their folder
    probe: str  # label of the probing that chooses, such as linear-separate
    metrics: tuple[str, ...]  # test metrics shown beside
    at_once: int = 0  # points that learn side by side at most; 0: all that can


class Result(NamedTuple):
    """What became of a point."""

    status: str  # waiting | unfinished | finished | failed
    validation: Mapping[str, Any] = {}  # mean, std, per_seed in percent
    metrics: Mapping[str, Mapping[str, Any]] = {}  # on test images, by name
    time_s: float = 0.0
    reason: str = ""  # of a failure


Results = Mapping[str, Result]  # by folder of the point


def failures(folder: Path) -> dict[str, str]:
    """Reasons of the points that failed, by folder.

    Raises:
      UsageError: if `sweep.json` is damaged.
    """
    path = folder / "sweep.json"
    if not path.exists():
        return {}
    known = workdir.read_json(path, needs="points")["points"]
    try:
        return {p["folder"]: p["reason"] for p in known if p["status"] == "failed"}
    except (TypeError, KeyError) as error:
        raise UsageError(
            f"{path} is damaged; delete it and repeat the sweep"
        ) from error


def result(folder: Path, *, probe: str, failed: str | None) -> Result:
    """What became of the point in `folder`; `failed` is the reason, if it is known to.

    A point whose folder was deleted is to be run again, failed or not.

    Raises:
      UsageError: if it has finished and says nothing of validation accuracy.
    """
    path = folder / "summary.json"
    if not path.exists():
        begun = (folder / "config.json").exists()
        if begun and failed is not None:
            return Result("failed", reason=failed)
        return Result("unfinished" if begun else "waiting")
    summary = workdir.read_json(path, needs="metrics")
    if lost := summary.get("stopped"):
        # Chosen by the seeds that were left, it would be chosen for the wrong reason.
        return Result("failed", reason=f"not finite: seed {', '.join(lost)}")
    try:
        validation = summary["validation"][probe]
        tested, seconds = summary["probes"][probe], summary["time"]["total_s"]
        known = len(validation["per_seed"]) and validation["mean"] is not None
    except (TypeError, KeyError):
        known = False
    if not known:
        raise UsageError(
            f"{path} holds no validation accuracy of the {probe} probe: delete the "
            f"folder to run the point again"
        )
    return Result("finished", validation, tested, seconds)


def ranked(results: Results) -> list[str]:
    """Folders of the finished points, best validation accuracy first.

    Test accuracy has no say, not even in a tie, which the earlier point wins.
    """
    done = [name for name, result in results.items() if result.status == "finished"]
    return sorted(done, key=lambda name: -results[name].validation["mean"])


def write(plan: Plan, results: Results) -> None:
    """Replace `sweep.json` and `sweep.csv`."""
    best = next(iter(ranked(results)), None)
    content = {
        "config": plan.source,
        "overrides": list(plan.fixed),
        "grid": list(next(iter(plan.points.values())).values),
        "probe": plan.probe,
        "chosen_by": RULE.format(plan.probe),
        "best": best,
        "command": command(plan, best) if best else None,
        "points": [
            {"folder": name, "values": plan.points[name].values, **result._asdict()}
            for name, result in results.items()
        ],
    }
    text = json.dumps(content, indent=1)
    workdir.write(plan.folder / "sweep.json", text + "\n")
    workdir.write(plan.folder / "sweep.csv", as_csv(plan, results))


def as_csv(plan: Plan, results: Results) -> str:
    """One row a point in the grid's order, numbers in full, empty where unknown."""
    fields = list(next(iter(plan.points.values())).values)
    numbers = [f"{m}_{part}" for m in plan.metrics for part in ("mean", "std")]
    head = ["folder", *fields, "status", "validation_mean", "validation_std"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*head, *numbers, "time_s", "reason"])
    for name, result in results.items():
        parts = [result.validation, *(result.metrics.get(m, {}) for m in plan.metrics)]
        writer.writerow(
            [
                name,
                *map(shown, plan.points[name].values.values()),
                result.status,
                *(part.get(key) for part in parts for key in ("mean", "std")),
                result.time_s if result.status == "finished" else None,
                result.reason,
            ]
        )
    return text.getvalue()


def command(plan: Plan, name: str) -> str:
    """The shell command that runs a point anew, in a folder of its own."""
    whole = plan.folder if plan.folder.name.strip(".") else plan.folder.resolve()
    folder = whole.with_name(f"{whole.name}-{name}")
    return plan.points[name].command(folder)


def closing(plan: Plan, results: Results) -> str:
    """The last words of a sweep: table, failures, the best point and its command."""
    order = ranked(results)
    rows: list[Row] = [
        (
            plan.points[name].name,
            {"validation": results[name].validation, **results[name].metrics},
        )
        for name in order
    ]
    failed = [n for n, result in results.items() if result.status == "failed"]
    seeds = len(results[order[0]].validation["per_seed"])
    return "\n".join(
        [
            f"{plan.probe} probe, percent, mean ± std over {seeds} "
            f"seed{'s' if seeds > 1 else ''}; validation chooses, the rest is test",
            table(rows, metrics=("validation", *plan.metrics), first="point"),
            *(f"failed: {plan.points[n].name}: {results[n].reason}" for n in failed),
            f"best by validation accuracy: {plan.folder / order[0]}",
            "to run it again from the start:",
            f"  {command(plan, order[0])}",
        ]
    )
