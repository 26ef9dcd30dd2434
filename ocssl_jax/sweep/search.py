"""The sweep itself: the points one after another, a line for each, then the choice."""

from collections.abc import Sequence
from contextlib import redirect_stdout

from jax.errors import JaxRuntimeError
from tqdm import tqdm

from ocssl_jax import experiment, scopes, settings, workdir
from ocssl_jax.build import Experiment, build
from ocssl_jax.errors import TrainingError, UsageError
from ocssl_jax.report.table import cell
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
        for name, point in plan.points.items():
            if results[name].status in DONE:
                continue
            results[name] = Result("unfinished")
            ledger.write(plan, results)
            results[name] = attempt(plan, name, point, stop)
            ledger.write(plan, results)
            print(_line(plan, results, name), flush=True)
            stop.check(f"after {_done(results)} of {len(results)} points")
    if not ledger.ranked(results):
        raise TrainingError(
            f"all {len(results)} points failed, there is no best one; "
            f"{plan.folder / 'sweep.json'} has the reasons"
        )
    return ledger.closing(plan, results)


def attempt(plan: Plan, name: str, point: Point, stop: Stop) -> Result:
    """Run a point, or the rest of it; what it says goes to `sweep.log`."""
    folder = plan.folder / name
    with (plan.folder / "sweep.log").open("a", buffering=1) as log:
        print(f"-- {name}", file=log)
        try:
            with redirect_stdout(log):
                print(experiment.run(point.config, folder, point.overrides, stop))
        except TrainingError as error:
            print(error, file=log)
            return Result("failed", reason=str(error))
        except JaxRuntimeError as error:  # such as a memory too small for this point
            print(error, file=log)
            return Result(
                "failed", reason=(str(error).splitlines() or ["XLA failed"])[0]
            )
    return ledger.result(folder, probe=plan.probe, failed=None)


def _done(results: Results) -> int:
    return sum(result.status in DONE for result in results.values())


def _opening(plan: Plan, results: Results) -> str:
    """How many points there are, and how many a former sweep has left to do."""
    n, done = len(results), _done(results)
    before = f", {done} done before" if done else ""
    return f"{n} points in {plan.folder}{before}; details in sweep.log"


def _line(plan: Plan, results: Results, name: str) -> str:
    """A point's outcome in one line."""
    result, left = results[name], len(results) - _done(results)
    place = f"[{_done(results)}/{len(results)}] {plan.points[name].name}:"
    if result.status == "failed":
        return f"{place} failed, {result.reason}"
    times = [r.time_s for r in results.values() if r.status == "finished"]
    eta = tqdm.format_interval(left * sum(times) / len(times))
    shown = [f"{m} {cell(result.metrics.get(m))}" for m in plan.metrics]
    words = [f"validation {cell(result.validation)}", *shown, f"{result.time_s:.0f} s"]
    return f"{place} {', '.join([*words, f'{eta} left'] if left else words)}"
