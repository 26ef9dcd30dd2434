"""Probing long after training: the encoders that a run saved, judged once more.

Nothing of the run is changed, and probes have keys of their own, so the same settings
give the very rows that the run's own probes gave.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from flax.errors import FlaxError
from ml_collections import ConfigDict

from ocssl_jax import (
    accuracy,
    dotted,
    encoders,
    failed,
    labels,
    rates,
    scopes,
    workdir,
)
from ocssl_jax.asked import asked_for, name_of
from ocssl_jax.build import Experiment, build
from ocssl_jax.core import Variables
from ocssl_jax.encoding import Encoder
from ocssl_jax.errors import UsageError
from ocssl_jax.probing import Features, Probing, features_of, judge, probing
from ocssl_jax.report.table import table
from ocssl_jax.stop import Stop
from ocssl_jax.views import Views
from ocssl_jax.watching import watch

FOLDER = "evaluation"
FINAL = ("FA", "accuracy")  # metrics of the end of the stream alone


def evaluate(folder: Path, asked: Mapping[str, Any], *, last: bool = False) -> str:
    """Judge what has not been judged yet; the table of the results.

    Args:
      folder: workdir of a run, finished or not.
      asked: fields of the config that are to differ from the run's.
      last: whether the last encoders there are will do.

    Raises:
      UsageError: before anything is written, if the folder is no run or holds no
        encoder, or what is asked for is not possible.
      Interrupted: after a SIGTERM or SIGINT, everything saved.
      TrainingError: if an encoder is not finite.
    """
    config = asked_for(workdir.config_of(folder), asked)
    config.seeds = finished(folder, config.seeds)
    experiment = build(config, fresh=False, offline=True)
    run = workdir.read_json(folder / "config.json", needs="config")
    workdir.check_data(folder, {"data": run.get("data")}, experiment.contents)
    end = int(experiment.schedules[0].experience[-1])
    saved = encoders.found(folder, config.seeds, last=end)
    if not saved:
        broken = failed.reason(folder)
        told = f"; this one broke down: {broken}" if broken else ""
        raise UsageError(
            f"{folder} holds no saved encoder: let a run finish, or keep the encoders "
            f"of every experience by leaving config.checkpoint.encoders True{told}"
        )
    if last:
        saved = {max(saved): saved[max(saved)]}
    place = folder / FOLDER / name_of(config.probe)
    with workdir.held(place), Stop() as stop:
        take(place / "data.json", experiment.contents)
        ways = scopes.variants(config.probe, iid=config.stream.kind == "iid")
        records, chosen, sizes = judged(experiment, config, ways, saved, place, stop)
        known = {*saved, *(record.after_experience for record in records)}
        if not records:
            raise UsageError(f"no task that {folder} has met so far has test images")
        summary = {
            "strategy": config.strategy.name,
            "learner": labels.learner(partial(dotted.get, config)),
            "method": config.method.name,
            "dataset": config.probe.dataset or config.stream.dataset,
            "seeds": list(config.seeds),
            "fidelity": config.fidelity,
            "experiences": sorted(known),
            "finished": end in known,
            **told_of(scopes.judged(records, ways, sizes), known, end),
        }
        text = json.dumps(summary, indent=1)
        workdir.write(place / "summary.json", text + "\n")
    return results(summary, place, rates.told(chosen))


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


def told_of(judged: dict[str, Any], known: set[int], end: int) -> dict[str, Any]:
    """What `scopes.judged` gives, less what says nothing of the last encoders alone.

    Args:
      judged: as it gives it.
      known: experiences after which encoders were judged.
      end: the stream's last.
    """
    if not end or known != {end}:
        return judged
    of = lambda values: {n: value for n, value in values.items() if n in FINAL}
    probes = {name: of(values) for name, values in judged["probes"].items()}
    return {**judged, "probes": probes, "metrics": of(judged["metrics"])}


def judged(
    experiment: Experiment,
    config: ConfigDict,
    ways: Sequence[scopes.Variant],
    saved: Mapping[int, Path],
    place: Path,
    stop: Stop,
) -> tuple[Sequence[accuracy.Record], Sequence[rates.Rate], list[int]]:
    """Rows of `accuracy.csv` and `rates.csv`, and the tasks' test sizes.

    Both files are written after each encoder.
    """
    path, tried = place / "accuracy.csv", place / "rates.csv"
    images, learning = probing(experiment, config), experiment.learning
    records = accuracy.read(path, tasks=images.tasks) if path.exists() else []
    done = {(row.after_experience, row.seed) for row in records}
    known = rates.read(tried) if tried.exists() else []
    chosen = [row for row in known if (row.after_experience, row.seed) in done]
    encode, look = (
        Encoder(function, batch_size=config.probe.batch_size)
        for function in (learning.encode, learning.encode_views)
    )
    for after, folder in saved.items():
        for seed in config.seeds:
            if (after, seed) in done:
                continue
            variables, features = features_in(
                encoders.file(folder, seed), encode, images
            )
            what = f"experience {after + 1}, seed {seed}"
            views = Views(look, variables, images.train.image, watch(what, stop))
            found = judge(
                experiment.probes,
                ways,
                images,
                features._replace(views=views),
                seed=seed,
                after=after,
                met=learning.method.meet is not None,
            )
            records, chosen = [*records, *found.test], [*chosen, *found.rates]
            if chosen:
                rates.write(tried, chosen)
            accuracy.write(path, records)  # last: an encoder with rows here is done
            print(f"judged {what}", flush=True)
            stop.check(f"after {what}")
    return records, chosen, images.sizes


def features_in(
    file: Path, encode: Encoder, images: Probing
) -> tuple[Variables, Features]:
    """The encoder in a file, and what it makes of the images.

    Raises:
      UsageError: if it is of another network, or damaged.
    """
    variables = encoders.load(file)
    try:
        return variables, features_of(encode, variables, images)
    except (FlaxError, TypeError, ValueError) as error:
        raise UsageError(
            f"{file} is no encoder of this run's network "
            f"({str(error).splitlines()[0]}); delete it"
        ) from error


def results(summary: Mapping[str, Any], place: Path, lines: Sequence[str]) -> str:
    """What a person reads in the terminal, `lines` beneath the table."""
    count, seeds = len(summary["experiences"]), len(summary["seeds"])
    rows = [
        (f"{summary['learner']}, {name}", values)
        for name, values in summary["probes"].items()
    ]
    return (
        f"{summary['dataset']}, encoders after {count} "
        f"experience{'s' if count > 1 else ''}"
        f"{'' if summary['finished'] else ' of an unfinished run'}, percent, "
        f"mean ± std over {seeds} seed{'s' if seeds > 1 else ''}\n"
        + "\n".join([table(rows), *lines, f"results: {place}"])
    )
