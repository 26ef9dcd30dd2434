"""What a run came to: `summary.json`, and what a terminal shows of it."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ocssl_jax import accuracy, dotted, faults, labels, metrics, scopes
from ocssl_jax.report.table import NAMES, table
from ocssl_jax.train import Run

Records = Sequence[accuracy.Record]


def summarised(
    learner: Run, baselines: Mapping[str, Records], time: Mapping[str, float]
) -> dict[str, Any]:
    """The content of `summary.json`; accuracies in percent.

    `seeds` are those that got to the end, and the order of all values `per_seed`.
    """
    assert learner.judge is not None
    config, judge, images = learner.config, learner.judge, learner.judge.images
    stopped, going = learner.standing.stopped, learner.standing.going
    learnt = learner.course.samples(learner.step) * len(going)
    learnt += sum(learner.course.samples(fault.step) for fault in stopped.values())
    records = accuracy.of_seeds(judge.records, going)
    seconds = max(time["train_s"], 1e-9)
    summary: dict[str, Any] = {
        "strategy": config.strategy.name,
        "learner": labels.learner(partial(dotted.get, config)),
        "method": config.method.name,
        "dataset": config.stream.dataset,
        "backbone": config.backbone.name,
        "seeds": going,
        "stopped": learner.standing.as_json(),
        "fidelity": config.fidelity,
        "metrics": {},
        "validation": {},
        "baselines": {},
        "time": time,
        "throughput": {
            "stream_images_per_s": learnt / seconds,
            "train_images_per_s": learner.trained / seconds,
        },
        "steps": learner.step,
        "updates": (learner.step - learner.course.passed) * config.passes,
        "samples_seen": learner.course.samples(learner.step),
        "skipped_files": len(learner.experiment.dataset.skipped),
    }
    if images is not None and records:
        sizes, first = images.sizes, scopes.leading(judge.ways)
        summary |= scopes.judged(records, judge.ways, sizes)
        held = accuracy.of_seeds(judge.validation, going)
        summary["validation"] = validation(held, images.val_sizes)
        summary["baselines"] = {
            name: scopes.metrics_of(records, first, sizes)
            for name, records in baselines.items()
        }
    return summary


def validation(rows: Records, sizes: Sequence[int]) -> dict[str, Any]:
    """Each probe's joint validation accuracy at the end of the stream, over seeds.

    For choosing between runs, not for reporting: the linear probe is tuned on the same
    images.
    """
    return {
        name: metrics.summarise(rows, probe=name, sizes=sizes)["FA"]
        for name in dict.fromkeys(row.probe for row in rows)
    }


def results(summary: Mapping[str, Any], folder: Path) -> str:
    """What a person reads in the terminal when a run has ended."""
    own = summary.get("learner", summary["strategy"])
    rows = [(own, summary["metrics"])]
    rows += [(NAMES.get(n, n), values) for n, values in summary["baselines"].items()]
    seeds, time = len(summary["seeds"]), summary["time"]["total_s"]
    lines = [f"report: {folder / 'report' / 'index.html'}"]
    if summary["metrics"]:
        lines = [
            f"{summary['dataset']}, {summary['probe']} probe, percent, "
            f"mean ± std over {seeds} seed{'s' if seeds > 1 else ''}, {time:.0f} s",
            table(rows),
            *lines,
        ]
    lines += faults.told(summary)
    return "\n".join(lines)
