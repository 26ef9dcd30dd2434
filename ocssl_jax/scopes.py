"""In which ways an encoder is judged: probe x scope x share of the labels.

A scope says which tasks share a classifier, that is fitted, tuned and tested on them
alone:

* `joint`     one over all tasks, those to come included;
* `upto`      one over the tasks met so far, so it has more classes each time;
* `separate`  one a task, of every task, those to come included: the task is known.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from ocssl_jax.accuracy import Record
from ocssl_jax.data import Benchmark
from ocssl_jax.errors import UsageError, one_of
from ocssl_jax.metrics import summarise

CLASSIFIER = "classifier"  # among probes a supervised method's own head, never fitted
Groups = list[range]  # tasks that share a classifier

# (number of tasks, experience just learnt) -> the tasks of each classifier
SCOPES: dict[str, Callable[[int, int], Groups]] = {
    "joint": lambda tasks, after: [range(tasks)],
    "upto": lambda tasks, after: [range(min(after + 1, tasks))],
    "separate": lambda tasks, after: [range(i, i + 1) for i in range(tasks)],
}


class Variant(NamedTuple):
    """One way to judge an encoder."""

    probe: str
    scope: str
    ratio: float  # share of each class's training labels
    downstream: bool  # on another data set than the stream's
    iid: bool = False  # of a shuffled stream, which meets no task before another

    @property
    def label(self) -> str:
        """Its name in `accuracy.csv`: such as 'linear' or 'linear-separate-0.1'."""
        scope = "" if self.scope == "joint" else f"-{self.scope}"
        return self.probe + scope + ("" if self.ratio == 1 else f"-{self.ratio}")

    def groups(self, tasks: int, after: int) -> Groups:
        """The tasks of each classifier after experience `after`.

        A method's own classifier knows nothing of tasks to come.
        """
        own = self.defines == "classifier"
        return SCOPES["upto" if own else self.scope](tasks, after)

    @property
    def defines(self) -> str:
        """The key of `metrics.DEFINED` that says which metrics mean something."""
        if self.probe == CLASSIFIER:
            return "classifier_iid" if self.iid else "classifier"
        return "downstream" if self.downstream else "iid" if self.iid else self.scope


def variants(probe: ConfigDict, *, iid: bool) -> list[Variant]:
    """Every way that `config.probe` asks for, scope by scope, then share by share.

    A supervised method's own classifier comes first, once: it knows of no scope.

    Args:
      probe: the config's group.
      iid: whether the stream is a shuffled one.
    """
    fitted = [
        Variant(name, scope, ratio, bool(probe.dataset), iid)
        for scope in probe.scopes
        for ratio in probe.ratios
        for name in probe.names
        if name != CLASSIFIER
    ]
    own = Variant(CLASSIFIER, "joint", 1.0, False, iid)  # it is not fitted to a scope
    return [own, *fitted] if CLASSIFIER in probe.names else fitted


def leading(ways: Sequence[Variant]) -> Variant:
    """The one whose numbers stand for the run: joint and with all labels if possible.

    Of several the first listed.
    """
    return max(ways, key=lambda way: (way.ratio == 1, way.scope == "joint"))


def check(config: ConfigDict, bench: Benchmark) -> None:
    """Refuse scopes that these experiences cannot be probed in.

    Args:
      config: a resolved config.
      bench: what is probed, the stream's experiences or the one downstream task.

    Raises:
      UsageError: saying what to change.
    """
    probe = config.probe
    if probe.dataset and tuple(probe.scopes) != ("joint",):
        raise UsageError(
            "config.probe.scopes must be joint with probe.dataset, whose images belong "
            f"to no task of the stream, got {tuple(probe.scopes)!r}"
        )
    if probe.dataset and CLASSIFIER in probe.names:
        raise UsageError(
            "config.probe.names must not hold classifier with probe.dataset: its "
            "classes are the stream's"
        )
    if bench.kind == "iid" and "upto" in probe.scopes:
        raise UsageError(
            "config.probe.scopes must not be upto with stream.kind iid, which meets "
            "all tasks at once"
        )
    if len(set().union(*bench.classes)) < 2:
        raise UsageError("a probe needs at least 2 classes; see config.stream.classes")
    if "separate" in probe.scopes and max(map(len, bench.classes)) < 2:
        raise UsageError(
            "config.probe.scopes must not be separate where every task has one class: "
            "there is nothing to tell apart"
        )
    if "linear" in probe.names:
        _check_validation(probe, [len(val) for val in bench.val])


def _check_validation(probe: ConfigDict, sizes: Sequence[int]) -> None:
    """Refuse a classifier that would be tuned on none of the validation images."""
    tasks = range(len(sizes))
    for scope in probe.scopes:
        for group in (g for after in tasks for g in SCOPES[scope](len(sizes), after)):
            if not sum(sizes[task] for task in group):
                where = f" of task {group[-1]}" if len(group) < len(sizes) else ""
                raise UsageError(
                    f"the linear probe tunes on validation images{where} and there are "
                    f"none: raise {'probe' if probe.dataset else 'stream'}.val_ratio "
                    f"when training, or use the probes ridge and knn alone"
                )


def check_names(probe: ConfigDict, *, offline: bool) -> None:
    """Every probe and every scope must be known.

    Args:
      probe: the config's group.
      offline: whether no run waits for the probes.

    Raises:
      UsageError: naming the known ones.
    """
    # Imported here: whoever reads results alone needs no JAX.
    from ocssl_jax.probes import OFFLINE, PROBES

    known = (*PROBES, *OFFLINE, CLASSIFIER) if offline else (*PROBES, CLASSIFIER)
    for name in probe.names:
        if name in OFFLINE and not offline:
            raise UsageError(
                f"config.probe.names must not hold {name!r}, which takes too long for "
                f"a run to wait: python -m ocssl_jax.evaluate WORKDIR --probe {name}"
            )
        one_of("probe.names", name, known)
    for scope in probe.scopes:
        one_of("probe.scopes", scope, SCOPES)


def judged(
    records: Iterable[Record], ways: Sequence[Variant], sizes: Sequence[int]
) -> dict[str, Any]:
    """What a `summary.json` says of probing: the metrics of every way, the leading one.

    Args:
      records: rows of `accuracy.csv`.
      ways: as `variants` gives them.
      sizes: [t] test samples a task.

    A way in which nothing was judged is left out: no task that it had may have had
    test images.
    """
    records = list(records)
    known = {record.probe for record in records}
    ways = [way for way in ways if way.label in known]
    probes = {way.label: metrics_of(records, way, sizes) for way in ways}
    first = leading(ways).label
    return {
        "probe": first,
        "test_sizes": list(sizes),
        "probes": probes,
        "metrics": probes[first],
    }


def metrics_of(
    records: Iterable[Record], way: Variant, sizes: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """The metrics of one way to judge, those that its scope defines."""
    return summarise(records, probe=way.label, sizes=sizes, scope=way.defines)
