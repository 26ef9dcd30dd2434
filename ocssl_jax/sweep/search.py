"""The sweep itself: the points as they can be learnt, a line for each, then the choice.

Points that differ in numbers alone share what is compiled (`siblings`), and where there
is more than one core to learn on they learn side by side (`crew`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, redirect_stdout
from functools import partial
from typing import Any, NamedTuple, TextIO

from jax.errors import JaxRuntimeError
from tqdm import tqdm

from ocssl_jax import crew, experiment, scopes, settings, workdir
from ocssl_jax.build import Experiment, build
from ocssl_jax.errors import Interrupted, TrainingError, UsageError
from ocssl_jax.report.table import cell
from ocssl_jax.seeds import Work, Working
from ocssl_jax.siblings import family
from ocssl_jax.sweep import ledger
from ocssl_jax.sweep.grid import Point
from ocssl_jax.sweep.ledger import Plan, Result, Results
from ocssl_jax.train import Stop

DONE = ("finished", "failed")


def check(points: Sequence[Point], probe: str | None) -> str:
    """Build every point; the label, as in `summary.json`, of the probing that chooses.

    That is the leading one of `probe`, by default of the config's first probe.

    Raises:
      UsageError: if a point cannot be run, cannot be judged on validation images, or
        is judged otherwise than the others.
    """
    probe = probe or next(iter(points[0].config.probe.names), "linear")
    found = {
        point.name: _chooser(point, probe, build(point.config)) for point in points
    }
    first, label = next(iter(found.items()))
    places = {point.name: point.config.probe.dataset for point in points}
    for name, other in found.items():
        if (other, places[name]) != (label, places[first]):
            raise UsageError(
                f"{name} and {first} are judged by different probings, which cannot be "
                f"compared: leave probe.scopes, ratios and dataset out of --grid"
            )
    return label


def _chooser(point: Point, probe: str, experiment: Experiment) -> str:
    """The label of the probing that says what the point is worth.

    Raises:
      UsageError: if there is none.
    """
    asked, bench = point.config.probe, experiment.judged[1]
    if probe not in asked.names:
        names = ", ".join(asked.names) or "none"
        raise UsageError(
            f"{point.name}: a sweep chooses by the {probe} probe and "
            f"config.probe.names has {names}"
        )
    if not sum(map(len, bench.val)):
        group = "probe" if asked.dataset else "stream"
        raise UsageError(
            f"{point.name}: a sweep chooses by validation accuracy and no "
            f"validation images are held out: raise config.{group}.val_ratio"
        )
    ways = scopes.variants(asked, iid=point.config.stream.kind == "iid")
    way = scopes.leading([w for w in ways if w.probe == probe])
    last, tasks = int(experiment.schedules[0].experience[-1]), len(bench.val)
    if len(set().union(*scopes.SCOPES[way.scope](tasks, last))) < tasks:
        raise UsageError(
            f"{point.name}: the stream ends before its last task and scope {way.scope} "
            f"knows none to come: add joint to config.probe.scopes, or raise "
            f"config.stream.limit"
        )
    return way.label


def run(plan: Plan) -> str:
    """Run what is left of the sweep; the table, the best point and its command.

    Raises:
      UsageError: if a folder cannot be used.
      Interrupted: after a SIGTERM or SIGINT, everything saved.
      TrainingError: if every point has failed.
    """
    for name, point in plan.points.items():
        workdir.check(plan.folder / name, settings.as_json(point.config))
    with workdir.held(plan.folder), Stop() as stop:
        failed = ledger.failures(plan.folder)
        results = {
            name: ledger.result(
                plan.folder / name, probe=plan.probe, failed=failed.get(name)
            )
            for name in plan.points
        }
        ledger.write(plan, results)
        print(_opening(plan, results), flush=True)
        todo = [name for name, result in results.items() if result.status not in DONE]
        for group in groups(plan, todo):
            results |= dict.fromkeys(group.points, Result("unfinished"))
            ledger.write(plan, results)
            for name, result in attempt(plan, group, stop):
                results[name] = result
                ledger.write(plan, results)
                print(_line(plan, results, name, len(group.points)), flush=True)
            stop.check(f"after {_done(results)} of {len(results)} points")
    if not ledger.ranked(results):
        raise TrainingError(
            f"all {len(results)} points failed, there is no best one; "
            f"{plan.folder / 'sweep.json'} has the reasons"
        )
    return ledger.closing(plan, results)


class Group(NamedTuple):
    """Points that are under way at the same time."""

    points: dict[str, Point]  # by folder
    siblings: crew.Siblings | None  # makes their carriers; None: each has its own


def groups(plan: Plan, todo: Sequence[str]) -> list[Group]:
    """What is left to do, in the order of the grid.

    Families are of all points: one that is resumed has the program that it began with.
    """
    families: dict[str, list[str]] = {}
    for name, point in plan.points.items():
        families.setdefault(family(point.config), []).append(name)
    found: list[Group] = []
    for members in families.values():
        names, siblings, at_once = [n for n in members if n in todo], None, 1
        if len(members) > 1:
            configs = [plan.points[name].config for name in members]
            siblings = crew.Siblings(configs, at_once=plan.at_once)
            at_once = siblings.at_once
        for i in range(0, len(names), at_once):
            some = {name: plan.points[name] for name in names[i : i + at_once]}
            found.append(Group(some, siblings))
    place = {name: i for i, name in enumerate(todo)}
    return sorted(found, key=lambda group: place[next(iter(group.points))])


def attempt(plan: Plan, group: Group, stop: Stop) -> Iterator[tuple[str, Result]]:
    """Run points, or the rest of them; each one's outcome as soon as it is known.

    What they say goes to `sweep.log`.

    Raises:
      Interrupted: once all of them have saved what they have.
    """
    with ExitStack() as stack:
        log = stack.enter_context((plan.folder / "sweep.log").open("a", buffering=1))
        runs: dict[str, Working[str]] = {}
        for name, point in group.points.items():
            print(f"-- {name}", file=log)
            make = group.siblings.carriers if group.siblings else None
            run = experiment.running(
                point.config,
                plan.folder / name,
                point.overrides,
                stop,
                carriers=make and partial(make, config=point.config),
                name=name,
            )
            runs[name] = stack.enter_context(closing(run))
        yield from drive(plan, runs, log)


def drive(
    plan: Plan, runs: Mapping[str, Working[str]], log: TextIO
) -> Iterator[tuple[str, Result]]:
    """Have done what the runs ask for until each has ended; how, as it is known."""
    answers: dict[str, Any] = dict.fromkeys(runs)  # None begins
    interrupted: Interrupted | None = None
    while answers:
        asked: dict[str, Work] = {}
        for name, answer in answers.items():
            try:
                with redirect_stdout(log):
                    asked[name] = runs[name].send(answer)
            except StopIteration as end:
                print(end.value, file=log)
                folder = plan.folder / name
                yield name, ledger.result(folder, probe=plan.probe, failed=None)
            except Interrupted as error:
                interrupted = error
            except (TrainingError, JaxRuntimeError) as error:
                yield name, failed(error, log)
        try:
            answers = crew.done(asked)
        except JaxRuntimeError as error:  # such as a memory too small for all of them
            answers = {}
            yield from ((name, failed(error, log)) for name in asked)
    if interrupted:
        raise interrupted


def failed(error: Exception, log: TextIO) -> Result:
    """The outcome of a point that an error ended; XLA's are cut to their first line."""
    print(error, file=log)
    if isinstance(error, TrainingError):
        return Result("failed", reason=str(error))
    return Result("failed", reason=(str(error).splitlines() or ["XLA failed"])[0])


def _done(results: Results) -> int:
    return sum(result.status in DONE for result in results.values())


def _opening(plan: Plan, results: Results) -> str:
    """How many points there are, and how many a former sweep has left to do."""
    n, done = len(results), _done(results)
    before = f", {done} done before" if done else ""
    return f"{n} points in {plan.folder}{before}; details in sweep.log"


def _line(plan: Plan, results: Results, name: str, at_once: int) -> str:
    """The outcome of a point, one of so many that ran at once, in one line."""
    result, left = results[name], len(results) - _done(results)
    place = f"[{_done(results)}/{len(results)}] {plan.points[name].name}:"
    if result.status == "failed":
        return f"{place} failed, {result.reason}"
    times = [r.time_s for r in results.values() if r.status == "finished"]
    eta = tqdm.format_interval(left * sum(times) / len(times) / at_once)
    shown = [f"{m} {cell(result.metrics.get(m))}" for m in plan.metrics]
    words = [f"validation {cell(result.validation)}", *shown, f"{result.time_s:.0f} s"]
    return f"{place} {', '.join([*words, f'{eta} left'] if left else words)}"
