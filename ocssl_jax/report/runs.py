"""Runs as they lie on disk, finished or not, read from the files of the contract alone.

`config.json`, `accuracy.csv` and `summary.json` are enough, so that runs of older
versions can be compared too; whatever they lack is left out.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from ocssl_jax import accuracy, dotted, failed, metrics, scopes, workdir
from ocssl_jax.accuracy import Record
from ocssl_jax.errors import UsageError

# Fields that part runs of one experiment: the rest of a config says what was tried.
SHARED = (*dotted.FREE, "seeds", "baselines")
CONTENTS = ("data", "probe_data")  # fields of config.json that tell images apart


class Found(NamedTuple):
    """A run of some seeds."""

    folder: Path
    config: Mapping[str, Any]
    data: str  # which images its data set held, '' in a run that does not say
    records: Sequence[Record]
    summary: Mapping[str, Any] | None  # None while it is unfinished
    failed: str = ""  # why it broke down, if it did

    def get(self, field: str, default: Any = None) -> Any:
        """The config's field of that dotted name, if the run's version had it."""
        return dotted.flat(self.config).get(field, default)

    @property
    def state(self) -> str:
        """Whether it has finished, in a word or two; who follows a folder never has."""
        if self.summary is not None:
            return "finished"
        if self.failed:
            return "broke down"
        return "followed" if (self.folder / workdir.SEEN).exists() else "unfinished"

    @property
    def settled(self) -> dict[str, Any]:
        """What the run's results depend on, seeds apart."""
        return dotted.decisive(self._decided, SHARED)

    @property
    def _decided(self) -> dict[str, Any]:
        return {**self.config, **({"data": self.data} if self.data else {})}

    def key(self, *more: str) -> str:
        """One text for all runs with the same settings but for seeds and `more`."""
        return dotted.key(self._decided, (*SHARED, *more))

    @property
    def probes(self) -> list[str]:
        """Probes that have judged it, first the one that stands for the run."""
        told, ways = self.summary or {}, self.ways
        known = [*told.get("probes", {}), *(r.probe for r in self.records)]
        if told.get("metrics") and "probe" in told:
            known.insert(0, told["probe"])
        elif not told and ways and (own := scopes.leading(ways).label) in known:
            known.insert(0, own)
        return list(dict.fromkeys(known))

    @property
    def ways(self) -> list[scopes.Variant]:
        """In which ways its config asks for it to be judged."""
        usual = {"names": (), "scopes": ("joint",), "ratios": (1.0,), "dataset": ""}
        asked = {name: self.get(f"probe.{name}", usual[name]) for name in usual}
        iid = self.get("stream.kind", "class") == "iid"
        return scopes.variants(ConfigDict(asked), iid=iid)

    @property
    def seeds(self) -> list[int]:
        """Its seeds, in the order of the summary's values."""
        return list((self.summary or {}).get("seeds") or self.get("seeds") or ())

    @property
    def sizes(self) -> list[int]:
        """Test samples of each task; all alike where the run does not say."""
        known = (self.summary or {}).get("test_sizes")
        tasks = 1 + max((r.task for r in self.records), default=0)
        if {way.defines for way in self.ways} == {"upto"}:  # none to come is in a row
            tasks = max(tasks, self.get("stream.tasks", 1))
        return known or [1] * tasks

    def per_seed(self, probe: str) -> dict[str, list[float]]:
        """Metric -> its value for every seed, in percent; none without the probe.

        A finished run is quoted from its summary, an unfinished one measured so far.
        """
        if self.summary is not None:
            first = next(iter(self.probes), None)
            own = self.summary.get("metrics", {}) if probe == first else {}
            found = self.summary.get("probes", {}).get(probe, own)
            known = {name: value["per_seed"] for name, value in found.items()}
        else:
            rows = [r for r in self.records if r.probe == probe]
            # A seed without rows of the last probing has stopped amid the stream.
            last = max((r.after_experience for r in rows), default=0)
            ended = {r.seed for r in rows if r.after_experience == last}
            seeds = [s for s in self.seeds if s in ended]
            scope = next((w.defines for w in self.ways if w.label == probe), "joint")
            measured = [
                metrics.measure(
                    accuracy.to_matrix(
                        rows, seed=seed, probe=probe, n_tasks=len(self.sizes)
                    ),
                    self.sizes,
                    scope=scope,
                )
                for seed in seeds
            ]
            names = measured[0] if measured else {}
            known = {name: [one[name] for one in measured] for name in names}
        return {
            name: [np.nan if v is None else v for v in values]
            for name, values in known.items()
        }


def find(folders: Iterable[Path]) -> list[Found]:
    """The runs in `folders`, each once; a sweep's folder stands for its points.

    Raises:
      UsageError: naming the first folder that is no run.
    """
    places = dict.fromkeys(
        place.resolve() for folder in folders for place in _places(folder)
    )
    here = Path.cwd()
    found = [
        read(place.relative_to(here) if place.is_relative_to(here) else place)
        for place in places
    ]
    known: dict[str, set[str]] = {}
    for run in found:
        known.setdefault(dotted.key(run.config, SHARED), set()).add(run.data)
    return [run._replace(data=_data(run, known)) for run in found]


def _data(run: Found, known: Mapping[str, set[str]]) -> str:
    """Its data; if it does not say, those of the runs with its config if they agree."""
    others = known[dotted.key(run.config, SHARED)] - {""}
    return next(iter(others)) if not run.data and len(others) == 1 else run.data


def _places(folder: Path) -> Iterator[Path]:
    path = folder / "sweep.json"
    if not path.exists():
        yield folder
        return
    try:
        points = workdir.read_json(path, needs="points")["points"]
        places = [folder / point["folder"] for point in points]
    except (TypeError, KeyError) as error:
        raise UsageError(f"{path} is damaged; repeat the sweep without it") from error
    yield from (place for place in places if (place / "config.json").exists())


def is_run(folder: Path) -> bool:
    """Whether `folder` looks like that of a run or of a sweep."""
    if folder.parts[-2:] == ("baselines", "random"):
        return is_run(folder.parent.parent)
    return any((folder / name).exists() for name in ("config.json", "sweep.json"))


def read(folder: Path) -> Found:
    """The run in `folder`.

    Raises:
      UsageError: if there is none, or a file of it is damaged.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder of a run")
    if folder.parts[-2:] == ("baselines", "random"):
        return _random(folder)
    if not (folder / "config.json").exists():
        inner = any(folder.glob("*/config.json"))
        hint = f"; did you mean {folder / '*'} ?" if inner else ""
        raise UsageError(f"{folder} is no run: it holds no config.json{hint}")
    path = folder / "config.json"
    written = workdir.read_json(path, needs="config")
    config = written["config"]
    data = " ".join(str(written[name]) for name in CONTENTS if name in written)
    try:
        tasks = int(config["stream"]["tasks"])
    except (TypeError, KeyError, ValueError) as error:
        raise UsageError(f"{path} is damaged: it says of no tasks") from error
    summary = _summary(folder)
    broken = failed.reason(folder) if summary is None else ""
    return Found(folder, config, data, _records(folder, tasks), summary, broken)


def _summary(folder: Path) -> dict[str, Any] | None:
    """The content of `summary.json`, None without one.

    Raises:
      UsageError: if it does not have the form of one.
    """
    path = folder / "summary.json"
    if not path.exists():
        return None
    summary = workdir.read_json(path, needs="metrics")
    try:
        groups = summary.get("probes", {}), summary.get("baselines", {})
        tables = [summary["metrics"], *(t for group in groups for t in group.values())]
        for value in (value for one in tables for value in one.values()):
            [v is None or float(v) for v in value["per_seed"]]
        for number in (*summary.get("seeds", ()), *summary.get("test_sizes", ())):
            int(number)
        float((summary.get("time") or {}).get("total_s") or 0)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{path} is damaged; delete it and repeat the run, or leave {folder} out"
        ) from error
    return summary


def _random(folder: Path) -> Found:
    """The random encoder beside a run, which has neither config nor summary."""
    run = read(folder.parent.parent)
    config: dict[str, Any] = copy.deepcopy(dict(run.config))
    config["strategy"]["name"] = "random"
    summary = run.summary and {
        "metrics": run.summary.get("baselines", {}).get("random", {}),
        **{
            k: run.summary[k]
            for k in ("probe", "test_sizes", "seeds")
            if k in run.summary
        },
    }
    tasks = int(config["stream"]["tasks"])
    return Found(folder, config, run.data, _records(folder, tasks), summary)


def _records(folder: Path, tasks: int) -> list[Record]:
    path = folder / "accuracy.csv"
    remedy = f"bring the file back, or leave {folder} out"
    return accuracy.read(path, tasks=tasks, remedy=remedy) if path.exists() else []
