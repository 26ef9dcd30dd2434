"""Runs side by side: one line for those that differ in seeds alone, well labelled."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ocssl_jax import labels, metrics
from ocssl_jax.errors import UsageError
from ocssl_jax.report.runs import Found
from ocssl_jax.report.sheet import count
from ocssl_jax.report.table import NAMES

MOST_FIELDS = 4  # a label that would name more says which folder instead
STREAM = ("stream.dataset", "stream.kind", "stream.tasks")


class Stream(NamedTuple):
    """What was learnt from; experiences of one data set are columns of one table."""

    dataset: str
    kind: str
    tasks: int

    @property
    def data(self) -> str:
        """Such as 'cifar100' or 'cifar100, irregular'."""
        return self.dataset + (f", {self.kind}" if self.kind != "class" else "")

    @property
    def title(self) -> str:
        """Such as 'cifar100, 20 tasks'."""
        return f"{self.data}, {count(self.tasks, 'task')}"


class Line(NamedTuple):
    """One line of a comparison."""

    label: str
    runs: Sequence[Found]  # of different seeds, everything else the same
    values: Mapping[str, Mapping[str, Any]]  # metric -> mean, std, per_seed, in percent

    @property
    def finished(self) -> bool:
        """Whether its runs have finished; either all have or none."""
        return self.runs[0].summary is not None

    @property
    def stream(self) -> Stream:
        """The stream of its runs."""
        return stream_of(self.runs[0])

    @property
    def seeds(self) -> list[int]:
        """The union of its runs' seeds."""
        return [seed for run in self.runs for seed in run.seeds]

    def published(self, metric: str) -> str:
        """What its config says was published, such as '82.1 ± 1.5'; '' if nothing."""
        told = self.runs[0].get(f"published.{metric}") or ()
        return " ± ".join(f"{value:g}" for value in told)

    @property
    def time_s(self) -> float | None:
        """Seconds a run took, on average."""
        times = [
            ((run.summary or {}).get("time") or {}).get("total_s") for run in self.runs
        ]
        known = [time for time in times if time is not None]
        return sum(known) / len(known) if known else None


def stream_of(run: Found) -> Stream:
    """The stream of a run."""
    dataset, kind, tasks = (run.get(field) for field in STREAM)
    return Stream(str(dataset), str(kind or "class"), int(tasks or 1))


def lines(found: Sequence[Found], probe: str) -> list[Line]:
    """Lines by stream and in the order of the runs, labelled to be told apart.

    Raises:
      UsageError: if a seed is there twice.
    """
    groups: dict[Any, list[Found]] = {}
    for run in found:
        groups.setdefault((run.state, run.key()), []).append(run)
    rows = sorted(groups.values(), key=lambda runs: stream_of(runs[0]))
    return [
        Line(label, runs, _union(runs, label, probe))
        for label, runs in zip(_labels(rows), rows, strict=True)
    ]


def _union(runs: Sequence[Found], label: str, probe: str) -> dict[str, Any]:
    """Mean and spread of every metric over the seeds of all `runs`."""
    owners: dict[int, Found] = {}
    for run in runs:
        for seed in run.seeds:
            if seed in owners:
                raise UsageError(
                    f"seed {seed} of {label} is in {owners[seed].folder} and in "
                    f"{run.folder}, whose configs are the same: leave one out"
                )
            owners[seed] = run
    known = [run.per_seed(probe) for run in runs]
    names = dict.fromkeys(name for values in known for name in values)
    return {
        name: metrics.spread([v for values in known for v in values.get(name, [])])
        for name in names
    }


def _labels(rows: Sequence[Sequence[Found]]) -> list[str]:
    """A label for each row, with a suffix where rows of one stream would be alike."""
    firsts = [runs[0] for runs in rows]
    names = names_of(firsts)
    kinds = [(name, stream_of(run)) for name, run in zip(names, firsts, strict=True)]
    found = []
    for run, name, kind in zip(firsts, names, kinds, strict=True):
        same = [r for r, other in zip(firsts, kinds, strict=True) if other == kind]
        found.append(name + suffix(run, same) + _mark(run))
    return found


def names_of(firsts: Sequence[Found]) -> list[str]:
    """Each run in words, see `labels.learner`, with the method where there are several.

    And what it was probed on, where that is another data set than the stream's.
    """
    methods = {run.get("method.name") for run in firsts}
    found = []
    for run in firsts:
        name, other = labels.learner(run.get), run.get("probe.dataset")
        method = f" · {run.get('method.name')}" if len(methods) > 1 else ""
        probed = f", probed on {other}" if other else ""
        found.append(NAMES.get(name, name) + method + probed)
    return found


def _mark(run: Found) -> str:
    """What is said of a run that has not finished."""
    if run.summary is not None:
        return ""
    if run.state == "followed":
        return ", followed"
    done = len({r.after_experience for r in run.records})
    return f", {run.state}: {count(done, 'experience')} probed"


def suffix(run: Found, same: Sequence[Found], ignored: Iterable[str] = ()) -> str:
    """How `run` differs from the others in `same`, in brackets; '' if it is alone."""
    if len(same) < 2:
        return ""
    settled = [other.settled for other in same]
    fields = [
        field
        for field in set.intersection(*map(set, settled)) - set(ignored)
        if any(other[field] != settled[0][field] for other in settled)
    ]
    texts = [(other.state, _told(other, fields)) for other in same]
    if len(fields) > MOST_FIELDS or len(set(texts)) < len(texts):
        return f" ({run.folder})"
    told = _told(run, fields)
    return f" ({told})" if told else ""


def _told(run: Found, fields: Iterable[str]) -> str:
    """The values of `fields`; which images there were is told by where they lie."""
    values = {field: value for field, value in run.settled.items() if field in fields}
    if values.pop("data", None):
        values["stream.data_dir"] = run.get("stream.data_dir")
    return labels.label(values).replace(",", ", ")
