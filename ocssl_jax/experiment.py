"""An experiment: a run, the baselines it asks for beside it, a summary, a report.

Each baseline strategy is a run of its own in `baselines/<name>/`, so it resumes by
itself; the random encoder is the run's own initial state, probed once.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ocssl_jax import (
    accuracy,
    encoders,
    failed,
    handover,
    hosts,
    saved,
    settings,
    workdir,
    writers,
)
from ocssl_jax.build import INITIAL, Experiment, as_baseline, build
from ocssl_jax.checkpoint import steps_in
from ocssl_jax.core import Head, Method, TrainState
from ocssl_jax.encoders import FINAL
from ocssl_jax.errors import UsageError
from ocssl_jax.report.memory_sheet import sheet_of
from ocssl_jax.report.write import write_report
from ocssl_jax.seeds import Carriers, Working, alone
from ocssl_jax.stop import Stop
from ocssl_jax.summary import results, summarised
from ocssl_jax.train import Run

Records = Sequence[accuracy.Record]


def run(
    config: ConfigDict,
    folder: Path,
    overrides: Mapping[str, Any],
    stop: Stop | None = None,
) -> str:
    """Do what is left to do of an experiment by itself, as `running`."""
    return alone(running(config, folder, overrides, stop))


def running(
    config: ConfigDict,
    folder: Path,
    overrides: Mapping[str, Any],
    stop: Stop | None = None,
    *,
    carriers: Callable[[Experiment], Carriers] | None = None,
    name: str = "",
) -> Working[str]:
    """Do what is left to do of an experiment; the table of its results.

    Args:
      config: as resolved by `settings.resolve`.
      folder: the workdir.
      overrides: fields set on the command line, for the record.
      stop: who listens for signals, if somebody does already.
      carriers: those of its seeds, if not its own.
      name: in what is printed, if not the learner's.

    Raises:
      UsageError: before anything is written, if the config, the data or the workdir
        cannot be used.
      TrainingError, Interrupted: as `Run.learn`.
    """
    described = settings.as_json(config)
    hosts.led(lambda: workdir.check(folder, described))
    begun = (folder / "summary.json").exists() or steps_in(folder / "checkpoints")
    # The first process may have pictures to decode; the others find them decoded.
    make = partial(build, config, fresh=not begun)
    experiment = hosts.led(make) or make()
    with ExitStack() as stack:
        hosts.led(
            lambda: take(stack, folder, described, overrides, experiment.contents)
        )
        stop = stop or stack.enter_context(Stop())
        if not hosts.decided((folder / "summary.json").exists):
            own = carriers(experiment) if carriers else None
            learner = Run(experiment, config, folder, carriers=own, name=name)
            with failed.kept(folder):
                yield from finishing(learner, stop)
        return hosts.led(lambda: told(folder)) or ""


def take(
    stack: ExitStack,
    folder: Path,
    described: Mapping[str, Any],
    overrides: Mapping[str, Any],
    contents: Mapping[str, str],
) -> None:
    """Hold the workdir until the stack is closed, and say in it what is run."""
    stack.enter_context(workdir.held(folder))
    workdir.check(folder, described)
    path = folder / "config.json"
    if path.exists():
        workdir.check_data(folder, workdir.read_json(path, needs="config"), contents)
        return
    about = {**workdir.describe(described, overrides), **contents}
    workdir.write(path, json.dumps(about, indent=1) + "\n")


def finishing(learner: Run, stop: Stop) -> Working[None]:
    """Learn, run the baselines, and write everything that a finished run holds."""
    experiment, config, folder = learner.experiment, learner.config, learner.folder
    baselines: dict[str, Records] = {}
    for name in INITIAL:
        if name in config.baselines and config.probe.names:
            baselines[name] = initial_encoder(learner, folder, name, stop)
    stop.check(f"at stream batch {learner.step}")
    states = yield from learner.learning(stop)
    time = learner.clock.read()
    for name in config.baselines:
        if name not in INITIAL:
            baselines[name] = beside(learner, name, stop)
            stop.check(f"after the baseline {name}")

    def close() -> None:
        saved.save(
            folder / FINAL,
            config,
            experiment.learning,
            states,
            experiment.pixels,
            class_names=experiment.dataset.class_names,
            train_images=len(experiment.dataset.train_image),
        )
        if config.checkpoint.learner:
            handover.save(folder / handover.FOLDER, states, experiment.learning.method)
        for name in INITIAL:
            if name in baselines:  # beside seeds that have stopped it means nothing
                baselines[name] = accuracy.of_seeds(baselines[name], states)
        summary = summarised(learner, baselines, time)
        report(learner, states, summary, baselines)
        # Last, since it says that everything else is there.
        workdir.write(folder / "summary.json", json.dumps(summary, indent=1) + "\n")

    hosts.led(close)


def initial_encoder(learner: Run, folder: Path, name: str, stop: Stop) -> Records:
    """Accuracies of the initial weights, held constant over the stream."""
    path = folder / "baselines" / name / "accuracy.csv"
    if hosts.decided(path.exists):
        return accuracy.read(path, tasks=learner.tasks)
    initial = learner.seeds.split(learner.initial())
    states = dict(zip(learner.config.seeds, initial, strict=True))

    def close() -> Records:
        assert learner.judge is not None
        where = f"while probing the baseline {name}"
        made = learner.experiment.learning
        head = own_head(made.method) if made.method.head else None
        found = stop.among(encoders.of(states, made.encoder, head), where)
        after = learner.probed_after()
        records = learner.judge.judge_constant(found, after)
        accuracy.write(path, records)
        return records

    return hosts.led(close) or []


def own_head(method: Method) -> Callable[[TrainState], Head]:
    """A method's own classifier: a strategy's may be made of what it has seen."""

    def head(state: TrainState) -> Head:
        assert method.head is not None
        return method.head(state.params["method"])

    return head


def beside(learner: Run, name: str, stop: Stop) -> Records:
    """Run the baseline strategy `name` with everything else the same."""
    other = as_baseline(learner.config, name)
    place = learner.folder / "baselines" / name
    with failed.named(f"baseline {name}"):
        run(other, place, {"strategy.name": name}, stop)
    if not other.probe.names:
        return []
    seeds = workdir.read_json(place / "summary.json", needs="seeds")["seeds"]
    rows = accuracy.read(place / "accuracy.csv", tasks=learner.tasks)
    return accuracy.of_seeds(rows, seeds)


def report(
    learner: Run,
    states: Mapping[int, TrainState],
    summary: Mapping[str, Any],
    baselines: Mapping[str, Records],
) -> None:
    """Write `report/`, with the memory of the first seed that got to the end."""
    dataset, folder = learner.experiment.dataset, learner.folder
    first = next(iter(states.values()))
    _, variables = next(learner.encoders(states))
    assert learner.judge is not None
    write_report(
        folder / "report",
        summary=summary,
        accuracy=accuracy.of_seeds(learner.judge.records, states),
        history=writers.read(folder / "metrics.jsonl"),
        baselines_accuracy=baselines,
        sheet=sheet_of(first.strategy, dataset, learner.config.strategy.memory_size),
        seen=learner.judge.seen(variables),
        config=workdir.read_json(folder / "config.json", needs="config"),
    )


def told(folder: Path) -> str:
    """The results of the finished run in `folder`; its report is there afterwards.

    Raises:
      UsageError: if its summary is damaged.
    """
    path = folder / "summary.json"
    summary = workdir.read_json(path, needs="strategy")
    try:
        text = results(summary, folder)
        if (folder / "report" / "index.html").exists():
            return text
        report_again(folder, summary)
    except UsageError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{path} is damaged; delete it and repeat the run") from error
    return f"{text} (made again, without the memory and the map of features)"


def report_again(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write `report/` from the other files, which hold neither memory nor images."""

    def known(place: Path) -> Records:
        path, own = place / "accuracy.csv", place / "summary.json"
        about = workdir.read_json(own, needs="seeds") if own.exists() else summary
        return accuracy.of_seeds(
            accuracy.read(path) if path.exists() else [], about["seeds"]
        )

    beside = {name: known(folder / "baselines" / name) for name in summary["baselines"]}
    write_report(
        folder / "report",
        summary=summary,
        accuracy=known(folder),
        history=writers.read(folder / "metrics.jsonl"),
        baselines_accuracy={name: rows for name, rows in beside.items() if rows},
        sheet=None,
        seen=None,
        config=workdir.read_json(folder / "config.json", needs="config"),
    )
