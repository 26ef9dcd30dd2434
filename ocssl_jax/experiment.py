"""An experiment: a run, the baselines it asks for beside it, a summary, a report.

Each baseline strategy is a run of its own in `baselines/<name>/`, so it resumes by
itself; the random encoder is the run's own initial state, probed once.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from ocssl_jax import accuracy, export, metrics, scopes, settings, workdir, writers
from ocssl_jax.build import Experiment, as_baseline, build
from ocssl_jax.core import TrainState
from ocssl_jax.probing import judge_constant
from ocssl_jax.report.memory_sheet import sheet_of
from ocssl_jax.report.table import NAMES, table
from ocssl_jax.report.write import write_report
from ocssl_jax.stop import Stop
from ocssl_jax.train import Run, write_records

Records = Sequence[accuracy.Record]


def run(
    config: ConfigDict,
    folder: Path,
    overrides: Mapping[str, Any],
    stop: Stop | None = None,
) -> str:
    """Do what is left to do of an experiment; the table of its results.

    Args:
      config: as resolved by `settings.resolve`.
      folder: the workdir.
      overrides: fields set on the command line, for the record.
      stop: who listens for signals, if somebody does already.

    Raises:
      UsageError: before anything is written, if the config, the data or the workdir
        cannot be used.
      TrainingError, Interrupted: as `Run.learn`.
    """
    described = settings.as_json(config)
    workdir.check(folder, described)
    experiment = build(config)
    with workdir.held(folder), nullcontext(stop) if stop else Stop() as stop:
        workdir.check(folder, described)
        if not (folder / "config.json").exists():
            text = json.dumps(workdir.describe(described, overrides), indent=1)
            workdir.write(folder / "config.json", text + "\n")
        if not (folder / "summary.json").exists():
            finish(experiment, config, folder, stop)
    summary = workdir.read_json(folder / "summary.json", needs="strategy")
    return results(summary, folder)


def finish(
    experiment: Experiment, config: ConfigDict, folder: Path, stop: Stop
) -> None:
    """Learn, run the baselines, and write everything that a finished run holds."""
    learner = Run(experiment, config, folder)
    baselines: dict[str, Records] = {}
    if "random" in config.baselines and config.probe.names:
        baselines["random"] = random_encoder(learner, folder)
    stop.check(f"at stream batch {learner.step}")
    states, time = learner.learn(stop), learner.clock.read()
    for name in config.baselines:
        if name != "random":
            baselines[name] = beside(config, folder, name, stop)
            stop.check(f"after the baseline {name}")
    export.export(folder / "encoder", experiment, config, states)
    summary = summarised(learner, baselines, time)
    report(learner, states, summary, baselines)
    # Last, since it says that everything else is there.
    workdir.write(folder / "summary.json", json.dumps(summary, indent=1) + "\n")


def random_encoder(learner: Run, folder: Path) -> Records:
    """Accuracies of the initial weights, held constant over the stream."""
    path = folder / "baselines" / "random" / "accuracy.csv"
    if path.exists():
        return accuracy.read(path)
    assert learner.images is not None
    keys = [jax.random.key(seed) for seed in learner.config.seeds]
    initial = learner.seeds.split(learner.seeds.init(keys, learner.arrivals(0)))
    records: list[accuracy.Record] = []
    for seed, variables in learner.encoders(initial):
        records += judge_constant(
            learner.experiment.probes,
            learner.ways,
            learner.images,
            learner.encode.all(variables, learner.images),
            seed=seed,
            after=learner.probed_after(),
        )
    write_records(path, records)
    return records


def beside(config: ConfigDict, folder: Path, name: str, stop: Stop) -> Records:
    """Run the baseline strategy `name` with everything else the same."""
    other = as_baseline(config, name)
    place = folder / "baselines" / name
    run(other, place, {"strategy.name": name}, stop)
    return accuracy.read(place / "accuracy.csv") if config.probe.names else []


def summarised(
    learner: Run, baselines: Mapping[str, Records], time: Mapping[str, float]
) -> dict[str, Any]:
    """The content of `summary.json`; accuracies in percent."""
    config, images = learner.config, learner.images
    learnt = learner.samples(learner.step) * len(config.seeds)
    seconds = max(time["train_s"], 1e-9)
    summary: dict[str, Any] = {
        "strategy": config.strategy.name,
        "method": config.method.name,
        "dataset": config.stream.dataset,
        "backbone": config.backbone.name,
        "seeds": list(config.seeds),
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
        "updates": learner.step * config.passes,
        "samples_seen": learner.samples(learner.step),
        "skipped_files": len(learner.experiment.dataset.skipped),
    }
    if images is not None:
        sizes, first = images.sizes, scopes.leading(learner.ways)
        summary |= scopes.judged(learner.records, learner.ways, sizes)
        summary["validation"] = validation(learner, images.val_sizes)
        summary["baselines"] = {
            name: scopes.metrics_of(records, first, sizes)
            for name, records in baselines.items()
        }
    return summary


def validation(learner: Run, sizes: Sequence[int]) -> dict[str, Any]:
    """Each probe's joint validation accuracy at the end of the stream, over seeds.

    For choosing between runs, not for reporting: the linear probe is tuned on the same
    images.
    """
    rows = learner.validation
    return {
        name: metrics.summarise(rows, probe=name, sizes=sizes)["FA"]
        for name in dict.fromkeys(row.probe for row in rows)
    }


def report(
    learner: Run,
    states: Sequence[TrainState],
    summary: Mapping[str, Any],
    baselines: Mapping[str, Records],
) -> None:
    """Write `report/`, with the memory of the first seed."""
    dataset, folder = learner.experiment.dataset, learner.folder
    write_report(
        folder / "report",
        summary=summary,
        accuracy=learner.records,
        history=writers.read(folder / "metrics.jsonl"),
        baselines_accuracy=baselines,
        sheet=sheet_of(
            states[0].strategy, dataset, learner.config.strategy.memory_size
        ),
        config=workdir.read_json(folder / "config.json", needs="config"),
    )


def results(summary: Mapping[str, Any], folder: Path) -> str:
    """What a person reads in the terminal when a run has ended."""
    rows = [(summary["strategy"], summary["metrics"])]
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
    return "\n".join(lines)
