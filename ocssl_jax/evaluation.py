"""Probing long after training: the encoders that a run saved, judged once more.

Nothing of the run is changed, and probes have keys of their own, so the same settings
give the very rows that the run's own probes gave.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flax.errors import FlaxError
from ml_collections import ConfigDict

from ocssl_jax import accuracy, dotted, encoders, ranges, scopes, workdir
from ocssl_jax.build import Experiment, build
from ocssl_jax.errors import UsageError
from ocssl_jax.probing import Encoder, judge, probing
from ocssl_jax.report.table import table
from ocssl_jax.stop import Stop

DEFERRED = ("linear",)  # probes of a run that had none
FOLDER = "evaluation"


def evaluate(folder: Path, asked: Mapping[str, Any]) -> str:
    """Judge what has not been judged yet; the table of the results.

    Args:
      folder: workdir of a run, finished or not.
      asked: fields of the config that are to differ from the run's.

    Raises:
      UsageError: before anything is written, if the folder is no run or holds no
        encoder, or what is asked for is not possible.
      Interrupted: after a SIGTERM or SIGINT, everything saved.
      TrainingError: if an encoder is not finite.
    """
    config = asked_for(workdir.config_of(folder), asked)
    config.seeds = finished(folder, config.seeds)
    experiment = build(config, fresh=False)
    run = workdir.read_json(folder / "config.json", needs="config")
    workdir.check_data(folder, {"data": run.get("data")}, experiment.contents)
    last = int(experiment.schedules[0].experience[-1])
    saved = encoders.found(folder, config.seeds, last=last)
    if not saved:
        raise UsageError(
            f"{folder} holds no saved encoder: let a run finish, or keep the encoders "
            f"of every experience by leaving config.checkpoint.encoders True"
        )
    place = folder / FOLDER / name_of(config.probe)
    with workdir.held(place), Stop() as stop:
        take(place / "data.json", experiment.contents)
        ways = scopes.variants(config.probe, iid=config.stream.kind == "iid")
        records, sizes = judged(experiment, config, ways, saved, place, stop)
        if not records:
            raise UsageError(f"no task that {folder} has met so far has test images")
        summary = {
            "strategy": config.strategy.name,
            "method": config.method.name,
            "dataset": config.probe.dataset or config.stream.dataset,
            "seeds": list(config.seeds),
            "fidelity": config.fidelity,
            "experiences": sorted(saved),
            "finished": last in saved,
            **scopes.judged(records, ways, sizes),
        }
        text = json.dumps(summary, indent=1)
        workdir.write(place / "summary.json", text + "\n")
    return results(summary, place)


def finished(folder: Path, seeds: tuple[int, ...]) -> tuple[int, ...]:
    """The seeds that got to the end of a finished run; all of one under way."""
    path = folder / "summary.json"
    if not path.exists():
        return seeds
    return tuple(workdir.read_json(path, needs="seeds")["seeds"])


def take(path: Path, contents: Mapping[str, str]) -> None:
    """Say which data are judged; refuse to go on with others."""
    if path.exists():
        known = workdir.read_json(path, needs="data")
        workdir.check_data(path.parent, known, contents)
    workdir.write(path, json.dumps(contents, indent=1) + "\n")


def asked_for(config: ConfigDict, asked: Mapping[str, Any]) -> ConfigDict:
    """The run's config with what is asked for in its place.

    A label budget replaces the run's, whether that is a share or a number. A data set
    is one task, hence joint, and lies beside the stream's unless a folder is named.

    Raises:
      UsageError: if a field is out of range.
    """
    config.probe.names = config.probe.names or DEFERRED
    if "probe.ratios" in asked:
        config.probe.labels_per_class = 0
    if "probe.labels_per_class" in asked:
        config.probe.ratios = (1.0,)
    if "probe.dataset" in asked:
        config.probe.data_dir = ""
    if asked.get("probe.dataset"):
        config.probe.scopes = ("joint",)
    for name, value in asked.items():
        dotted.put(config, name, value)
    if not config.probe.names:
        raise UsageError("--probe needs at least one name, such as linear,ridge,knn")
    ranges.validate(config)
    return config


def name_of(probe: ConfigDict) -> str:
    """A folder name that tells which settings gave what lies in it.

    Whatever else decides a result is in the run's config, which never changes.
    """
    parts = ["+".join(probe.names)]
    if tuple(probe.scopes) != ("joint",):
        parts.append("+".join(probe.scopes))
    if tuple(probe.ratios) != (1,):
        parts.append("+".join(str(float(ratio)) for ratio in probe.ratios))
    if probe.labels_per_class:
        parts.append(f"{probe.labels_per_class}-labels")
    if probe.dataset:
        parts.append(f"on-{probe.dataset}")
    if probe.dataset and probe.data_dir:  # two folders of pictures have one name
        path = Path(probe.data_dir).expanduser().absolute()
        parts[-1] += f"-{zlib.crc32(str(path).encode()):08x}"
    return "_".join(parts)


def judged(
    experiment: Experiment,
    config: ConfigDict,
    ways: Sequence[scopes.Variant],
    saved: Mapping[int, Path],
    place: Path,
    stop: Stop,
) -> tuple[Sequence[accuracy.Record], list[int]]:
    """Rows of `accuracy.csv`, written after each encoder, and the tasks' test sizes."""
    path = place / "accuracy.csv"
    images = probing(experiment, config)
    records = accuracy.read(path, tasks=images.tasks) if path.exists() else []
    done = {(row.after_experience, row.seed) for row in records}
    encode = Encoder(experiment, batch_size=config.probe.batch_size)
    for after, folder in saved.items():
        for seed in config.seeds:
            if (after, seed) in done:
                continue
            file = encoders.file(folder, seed)
            variables = encoders.load(file)
            try:
                features = encode.all(variables, images)
            except (FlaxError, TypeError, ValueError) as error:
                raise UsageError(
                    f"{file} is no encoder of this run's network "
                    f"({str(error).splitlines()[0]}); delete it"
                ) from error
            records += judge(
                experiment.probes,
                ways,
                images,
                features,
                seed=seed,
                after=after,
                met=experiment.learning.method.met,
            ).test
            accuracy.write(path, records)
            print(f"judged experience {after + 1}, seed {seed}", flush=True)
            stop.check(f"after experience {after + 1}, seed {seed}")
    return records, images.sizes


def results(summary: Mapping[str, Any], place: Path) -> str:
    """What a person reads in the terminal."""
    count, seeds = len(summary["experiences"]), len(summary["seeds"])
    rows = [
        (f"{summary['strategy']}, {name}", values)
        for name, values in summary["probes"].items()
    ]
    return (
        f"{summary['dataset']}, encoders after {count} "
        f"experience{'s' if count > 1 else ''}"
        f"{'' if summary['finished'] else ' of an unfinished run'}, percent, "
        f"mean ± std over {seeds} seed{'s' if seeds > 1 else ''}\n"
        f"{table(rows)}\nresults: {place}"
    )
