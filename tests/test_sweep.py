"""A sweep: what it chooses by, what it repeats and what it refuses."""

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from jax.errors import JaxRuntimeError

from ocssl_jax import crew, dotted, settings, workdir
from ocssl_jax.commandline import configured
from ocssl_jax.errors import TrainingError, UsageError
from ocssl_jax.sweep import grid, search
from ocssl_jax.sweep.__main__ import main

CONFIG = str(Path(__file__).with_name("kill_config.py"))
RATES = "optimizer.learning_rate=0.03,0.1,0.3"
NOT_TUNED = "--config.probe.names=ridge"  # a probe that needs no validation images
# The point with the best test accuracy is the worst in validation, and not the first.
SHORT = "--config.stream.limit=2"  # of 12 stream batches
UNHELD = "--config.probe.val_ratio=0"
VALIDATION = {0.03: [40.0, 60.0], 0.1: [54.0, 56.0], 0.3: [30.0, 32.0]}
TEST = {0.03: [51.0, 52.0], 0.1: [45.0, 46.0], 0.3: [90.0, 92.0]}


@pytest.fixture(autouse=True)
def signals():
    """The command listens for SIGTERM; the tests' own handler comes back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def sweep(data_dir, tmp_path, capsys):
    """Calls the command in a folder of the test; its lines, or the one of a refusal."""

    def call(*flags, code=0):
        data = f"--config.stream.data_dir={data_dir}"
        try:
            main([CONFIG, data, f"--workdir={tmp_path / 'sweep'}", *flags])
            ended = 0
        except SystemExit as left:
            ended = left.code
        said = capsys.readouterr()
        assert ended == code, said
        lines = (said.err if code else said.out).splitlines()
        assert code != 2 or len(lines) == 1
        return lines if not code else lines[-1]

    return call


@pytest.fixture
def runs(monkeypatch):
    """Replaces the run by one that writes what a finished run leaves.

    `called` lists learning rate and passes of each; `events` happen within a run.
    """
    called, events = [], {}

    def running(config, folder, overrides, stop, *, carriers, name):
        del stop, carriers, name
        rate = config.optimizer.learning_rate
        called.append((rate, config.passes))
        settled = {"config": settings.as_json(config), "overrides": overrides}
        workdir.write(folder / "config.json", json.dumps(settled))
        events.get(rate, lambda: None)()
        spread = lambda values: {
            "mean": float(np.mean(values)),
            "std": float(np.std(values, ddof=1)),
            "per_seed": values,
        }
        tested = {"FA": spread(TEST[rate]), "CA": spread([v - 5 for v in TEST[rate]])}
        summary = {
            "metrics": tested,
            "probes": {"linear": tested, "ridge": tested},
            "validation": {
                "linear": spread(VALIDATION[rate]),
                "ridge": spread([100 - v for v in VALIDATION[rate]]),
            },
            "time": {"total_s": 10.0},
        }
        workdir.write(folder / "summary.json", json.dumps(summary))
        return "a table"
        yield  # it asks for no work

    monkeypatch.setattr(search.experiment, "running", running)
    return SimpleNamespace(called=called, events=events)


def status(tmp_path):
    points = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["points"]
    return [point["status"] for point in points]


def test_validation_chooses_and_test_accuracy_has_no_say(sweep, runs, tmp_path):
    lines = sweep("--grid", RATES)
    assert [rate for rate, _ in runs.called] == [0.03, 0.1, 0.3]
    assert lines[1] == (
        "[1/3] learning_rate=0.03: validation 50.00 ± 14.14, FA 51.50 ± 0.71, "
        "CA 46.50 ± 0.71, 10 s, 00:20 left"
    )
    table = [line for line in lines if line.startswith("| learning_rate")]
    assert [row.split("|")[1].strip() for row in table] == [
        "learning_rate=0.1",
        "learning_rate=0.03",
        "learning_rate=0.3",
    ]
    best = tmp_path / "sweep" / "learning_rate=0.1"
    assert lines[-3] == f"best by validation accuracy: {best}"
    written = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert written["best"] == "learning_rate=0.1"
    assert lines[-1].strip() == written["command"]


def test_the_probe_that_chooses_can_be_named(sweep, runs, tmp_path):
    assert "learning_rate=0.3" in sweep("--grid", RATES, "--probe", "ridge")[-3]


@pytest.mark.parametrize(
    ("flags", "label"),
    [
        (["scopes=separate"], "ridge-separate"),
        (["scopes=upto,separate", "ratios=0.5,1"], "ridge-upto"),
        (["ratios=0.1,0.5"], "ridge-0.1"),
        (["dataset=digits"], "ridge"),
    ],
)
def test_the_leading_probing_chooses(data_dir, flags, label):
    fixed = [f"--config.probe.{flag}" for flag in ("names=knn,ridge", *flags)]
    fixed.append(f"--config.stream.data_dir={data_dir}")
    fixed.append("--config.stream.limit=0")
    points = grid.points(CONFIG, fixed, {"passes": ["1", "2"]})
    assert search.check(points, "ridge") == label
    points[1].config.probe.update({"dataset": "digits", "scopes": ("joint",)})
    if "dataset=digits" not in flags:
        with pytest.raises(UsageError, match="different probings"):
            search.check(points, "ridge")


@pytest.mark.slow
def test_a_sweep_may_probe_each_task_alone(sweep, tmp_path):
    flags = ["scopes=separate", "ratios=0.5", "names=ridge"]
    lines = sweep(
        *("--grid", "optimizer.learning_rate=0.03,0.1", SHORT),
        *("--config.strategy.name=none", "--config.seeds=0"),
        *(f"--config.probe.{flag}" for flag in flags),
    )
    assert lines[-3].startswith("best by validation accuracy: ")
    for folder in ("learning_rate=0.03", "learning_rate=0.1"):
        path = tmp_path / "sweep" / folder / "summary.json"
        known = json.loads(path.read_text())["validation"]["ridge-separate-0.5"]
        assert any(f"{folder}: validation {known['mean']:.2f}" in x for x in lines)


def test_a_tie_goes_to_the_earlier_point(sweep, runs, monkeypatch):
    monkeypatch.setitem(VALIDATION, 0.3, VALIDATION[0.1])
    assert sweep("--grid", RATES)[-3].endswith("learning_rate=0.1")


def test_the_printed_command_gives_the_config_of_the_best_point(sweep, runs, tmp_path):
    parts = "strategy.climb.ema_parts=(encoder,),(encoder,projector),()"
    lines = sweep("--grid", RATES, "--grid", parts, "--config.fidelity=reference")
    folder = Path(lines[-3].split(": ")[1])
    assert folder.name == "learning_rate=0.1,ema_parts=encoder"
    python, launch, *arguments, place = shlex.split(lines[-1])
    assert (python, launch) == ("python", "launch.py")
    config, overrides = configured(arguments)
    kept = workdir.read_json(folder / "config.json", needs="config")
    again = settings.as_json(settings.resolve(config, overrides))
    assert dotted.differences(kept["config"], again) == []
    # A new folder: in the point's own it would only tell its results again.
    assert place == f"--workdir={tmp_path / 'sweep'}-{folder.name}"


def test_the_csv_holds_what_the_summaries_hold(sweep, runs, tmp_path):
    sweep("--grid", RATES, "--metric", "FA")
    rows = list(
        csv.DictReader((tmp_path / "sweep" / "sweep.csv").read_text().splitlines())
    )
    assert [float(row["optimizer.learning_rate"]) for row in rows] == [0.03, 0.1, 0.3]
    for row in rows:
        path = tmp_path / "sweep" / row["folder"] / "summary.json"
        summary = json.loads(path.read_text())
        validation, final = summary["validation"]["linear"], summary["metrics"]["FA"]
        assert float(row["validation_mean"]) == validation["mean"]
        assert float(row["validation_std"]) == validation["std"]
        assert (float(row["FA_mean"]), float(row["FA_std"])) == (
            final["mean"],
            final["std"],
        )
        assert row["status"] == "finished" and float(row["time_s"]) == 10
        assert "CA_mean" not in row


class Killed(BaseException):
    """The process is gone: nothing that follows is run."""


def test_a_killed_sweep_goes_on_with_the_point_it_was_at(sweep, runs, tmp_path):
    def kill():
        raise Killed

    runs.events[0.1] = kill
    with pytest.raises(Killed):
        sweep("--grid", RATES)
    assert status(tmp_path) == ["finished", "unfinished", "waiting"]
    runs.called.clear()
    runs.events.clear()
    lines = sweep("--grid", RATES)
    assert [rate for rate, _ in runs.called] == [0.1, 0.3]
    assert any("3 points" in line and "1 done before" in line for line in lines)
    assert lines[-3].endswith("learning_rate=0.1")
    runs.called.clear()
    assert sweep("--grid", RATES)[-3:] == lines[-3:]
    assert runs.called == []


def test_sigterm_is_obeyed_after_the_point_that_it_met(sweep, runs, tmp_path):
    runs.events[0.1] = lambda: os.kill(os.getpid(), signal.SIGTERM)
    lines = sweep("--grid", RATES)
    assert lines[-1] == "stopped after 2 of 3 points; repeat the command to go on"
    assert status(tmp_path) == ["finished", "finished", "waiting"]


def test_a_point_that_fails_is_recorded_and_passed_over(sweep, runs, tmp_path):
    def diverge():
        raise TrainingError("loss is nan at stream batch 3, seed 0")

    runs.events[0.1] = diverge
    lines = sweep("--grid", RATES)
    assert "[2/3] learning_rate=0.1: failed, loss is nan at stream batch 3" in lines[2]
    assert lines[-3].endswith("learning_rate=0.03")
    assert status(tmp_path) == ["finished", "failed", "finished"]
    runs.called.clear()
    again = sweep("--grid", RATES)
    assert runs.called == []
    assert any(line.startswith("failed: learning_rate=0.1: loss is") for line in again)
    # Deleted, it is tried again.
    (tmp_path / "sweep" / "learning_rate=0.1" / "config.json").unlink()
    runs.events.clear()
    assert sweep("--grid", RATES)[-3].endswith("learning_rate=0.1")
    assert [rate for rate, _ in runs.called] == [0.1]


def test_a_point_too_large_for_the_device_is_passed_over(sweep, runs, tmp_path):
    def overflow():
        raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocator stats")

    runs.events[0.1] = overflow
    lines = sweep("--grid", RATES)
    assert lines[2].endswith("failed, RESOURCE_EXHAUSTED: Out of memory")
    assert status(tmp_path) == ["finished", "failed", "finished"]


def test_a_sweep_of_failures_has_no_best(sweep, runs, tmp_path):
    def diverge():
        raise TrainingError("nan")

    runs.events.update(dict.fromkeys(TEST, diverge))
    assert "all 3 points failed" in sweep("--grid", RATES, code=1)
    assert json.loads((tmp_path / "sweep" / "sweep.json").read_text())["best"] is None


def test_a_grid_may_grow_by_values_and_by_fields(sweep, runs, tmp_path):
    sweep("--grid", "optimizer.learning_rate=0.1")
    sweep("--grid", "optimizer.learning_rate=0.03,0.1")
    sweep("--grid", "passes=3,2", "--grid", "optimizer.learning_rate=0.03,0.1")
    assert runs.called == [(0.1, 2), (0.03, 2), (0.03, 3), (0.1, 3)]
    folders = {path.parent.name for path in (tmp_path / "sweep").glob("*/config.json")}
    assert folders == {
        "learning_rate=0.1",
        "learning_rate=0.03",
        "passes=3,learning_rate=0.03",
        "passes=3,learning_rate=0.1",
    }


def test_a_grid_may_not_lose_points_nor_change_what_they_share(sweep, runs):
    sweep("--grid", RATES)
    line = sweep("--grid", "optimizer.learning_rate=0.03,0.1", code=2)
    assert "learning_rate=0.3 is no point of this grid" in line
    assert "optimizer.learning_rate: 0.3 -> 0.03" in line
    assert "passes: 2 -> 1" in sweep("--grid", RATES, "--config.passes=1", code=2)
    assert len(runs.called) == 3


def test_a_summary_without_validation_accuracy_is_refused(sweep, runs, tmp_path):
    sweep("--grid", RATES)
    path = tmp_path / "sweep" / "learning_rate=0.1" / "summary.json"
    summary = json.loads(path.read_text())
    del summary["validation"]
    path.write_text(json.dumps(summary))
    assert "no validation accuracy" in sweep("--grid", RATES, code=2)


def test_a_lost_or_damaged_sweep_json_costs_nothing(sweep, runs, tmp_path):
    lines = sweep("--grid", RATES)
    path = tmp_path / "sweep" / "sweep.json"
    for text in ('{"points": [{}]}', '{"points": 3}', "{"):
        path.write_text(text)
        assert f"{path} is damaged; delete it" in sweep("--grid", RATES, code=2)
    path.unlink()
    runs.called.clear()
    assert sweep("--grid", RATES)[-3:] == lines[-3:]
    assert runs.called == []
    path.unlink()
    (tmp_path / "sweep" / "thesis").mkdir()
    (tmp_path / "sweep" / "thesis" / "text.txt").write_text("mine")
    assert "no sweep.json" in sweep("--grid", RATES, code=2)


def test_a_damaged_summary_of_a_point_is_refused(sweep, runs, tmp_path):
    sweep("--grid", RATES)
    path = tmp_path / "sweep" / "learning_rate=0.1" / "summary.json"
    whole = json.loads(path.read_text())
    for part in ("validation", "probes", "time"):
        path.write_text(json.dumps({**whole, part: None}))
        assert "delete the folder" in sweep("--grid", RATES, code=2)


def test_the_projects_configs_are_found_beside_others(data_dir, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").write_text("")
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "ocssl_jax.sweep", CONFIG, "--grid", "passes=0"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert "config.passes must be at least 1, got 0" in done.stderr


def test_two_sweeps_never_share_a_workdir(sweep, runs, tmp_path):
    with workdir.held(tmp_path / "sweep"):
        assert "in use" in sweep("--grid", RATES, code=2)
    assert runs.called == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "a sweep needs a grid"),
        (["--grid", "passes"], "FIELD=V1,V2"),
        (["--grid", "passes=1,,2"], "FIELD=V1,V2"),
        (["--grid", "passes=1", "--grid", "passes=2"], "given twice"),
        (["--grid", "passes=1,2", "--config.passes=3"], "set by --grid and by"),
        (["--grid", "passes=1,two"], "'two'"),
        (["--grid", "passes=1,0"], "config.passes must be at least 1, got 0"),
        (["--grid", "optimizer.lr=1,2"], "config.optimizer has no field 'lr'"),
        (["--grid", "optimizer.learning_rate=0.1,1e-1"], "are the same run"),
        (["--grid", "stream={},{}"], "stream"),
        (["--grid", "seeds=1,2"], "--config.seeds"),
        (["--grid", "strategy.name=er,err"], "none, er,"),
        (["--grid", "stream.tasks=5,3"], "equal tasks"),
        (["--grid", RATES, "--config.stream.val_ratio=0"], "val_ratio"),
        (
            ["--grid", RATES, "--config.stream.val_ratio=0", NOT_TUNED],
            "no validation images are held out",
        ),
        (
            ["--grid", RATES, "--config.probe.dataset=digits", UNHELD, NOT_TUNED],
            "raise config.probe.val_ratio",
        ),
        (["--grid", RATES, "--config.probe.scopes=upto", SHORT], "add joint"),
        (["--grid", "probe.ratios=(0.5,),(1.0,)"], "different probings"),
        (["--grid", RATES, "--config.probe.names=()"], "config.probe.names has none"),
        (["--grid", RATES, "--probe", "knn"], "has linear, ridge"),
        (["--grid", RATES, "--metric", "FAA"], "FA, CA, CA_seen, forgetting"),
        (["--grid", RATES, "--at_once=-1"], "--at_once must be 0 or more, got -1"),
        (["--grid", RATES, "--at_once=few"], "--at_once"),
        (["--grid", RATES, "--confg=x"], "--confg=x"),
        (["--grid", RATES, "stray"], "stray"),
        (["--grid", RATES, "--workdir=/proc/nowhere"], "/proc/nowhere"),
        (["--grid", RATES, f"--workdir={Path(__file__).parent}"], "no sweep.json"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else None,
)
def test_wrong_input_gets_one_line_before_anything_runs(
    sweep, runs, tmp_path, flags, words
):
    assert words in sweep(*flags, code=2)
    assert runs.called == [] and not (tmp_path / "sweep").exists()


def test_the_folder_of_a_run_is_not_taken_for_a_sweep(sweep, runs, tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "config.json").write_text("{}")
    assert "is the folder of a run" in sweep("--grid", RATES, code=2)


def test_commas_within_brackets_and_quotes_belong_to_the_value():
    assert grid.split("1,2") == ["1", "2"]
    assert grid.split("(a,b),(c,),()") == ["(a,b)", "(c,)", "()"]
    assert grid.split("'a,b',[1,(2,3)]") == ["'a,b'", "[1,(2,3)]"]


def test_names_are_short_distinct_and_fit_into_a_folder(data_dir):
    values = {
        "optimizer.learning_rate": ["0.30"],
        "strategy.name": ["er"],
        "strategy.er.memory": ["fifo"],
        "strategy.cla_e.memory": ["fifo"],
        "strategy.climb.train_head": ["false"],
    }
    (point,) = grid.points(CONFIG, [], values)
    assert point.name == (
        "learning_rate=0.3,strategy=er,strategy.er.memory=fifo,"
        "strategy.cla_e.memory=fifo,train_head=false"
    )
    a, b = (
        grid.points(CONFIG, [], {"stream.data_dir": [text]})[0].name
        for text in ("/a/b", "/a-b")
    )
    assert a != b and "/" not in a
    long = grid.points(CONFIG, [], {"stream.data_dir": ["x" * 300]})[0].name
    assert len(long) < 150


def test_points_that_differ_only_in_what_decides_nothing_are_one():
    with pytest.raises(UsageError, match="the same run"):
        grid.points(CONFIG, [], {"log.every": ["1", "2"]})


def test_folders_of_pictures_are_points_of_their_own(tmp_path):
    values = {"stream.data_dir": ["a", "b"]}
    pictures = ["--config.stream.dataset=folder"]
    points = grid.points(CONFIG, pictures, values)
    for point in points:
        settled = {"config": settings.as_json(point.config), "overrides": {}}
        path = tmp_path / "sweep" / point.name / "config.json"
        workdir.write(path, json.dumps(settled))
    named = grid.placed(points, tmp_path / "sweep")
    assert list(named) == ["data_dir=a", "data_dir=b"]
    with pytest.raises(UsageError, match="data_dir: 'b' -> 'a'"):
        grid.placed(points[:1], tmp_path / "sweep")
    with pytest.raises(UsageError, match="the same run"):
        grid.points(CONFIG, [], values)  # the digits are the same everywhere


@pytest.mark.slow
def test_real_runs_one_of_which_diverges(sweep, tmp_path):
    flags = [
        *("--grid", "optimizer.learning_rate=0.1,1e30"),
        *("--config.strategy.name=none", "--config.stream.limit=2"),
        *("--config.probe.names=ridge", "--config.seeds=0,1"),
    ]
    lines = sweep(*flags)
    assert len(lines) == 11 and "failed, " in lines[2]
    good = tmp_path / "sweep" / "learning_rate=0.1"
    assert lines[-3] == f"best by validation accuracy: {good}"
    summary = json.loads((good / "summary.json").read_text())
    row = next(
        csv.DictReader((tmp_path / "sweep" / "sweep.csv").read_text().splitlines())
    )
    validation = summary["validation"]["ridge"]
    assert float(row["validation_mean"]) == validation["mean"]
    assert np.mean(validation["per_seed"]) == pytest.approx(validation["mean"])
    assert summary["baselines"] == {}  # they would be the same at every point
    assert "experience 1/5  ridge" in (tmp_path / "sweep" / "sweep.log").read_text()
    assert sweep(*flags)[-7:] == lines[-7:]


def test_points_side_by_side_are_the_runs_themselves(sweep, tmp_path, monkeypatch):
    """On a mesh of one device, then resumed in turn, beside runs by themselves."""
    flags = [
        *("--grid", "optimizer.learning_rate=0.1,0.01", "--config.seeds=0"),
        *("--config.strategy.name=none", "--config.stream.limit=2"),
        *("--config.probe.names=ridge", "--config.probe.every=9"),
    ]
    monkeypatch.setattr(crew, "turns", lambda mesh: False)
    driven = []
    done = crew.done
    monkeypatch.setattr(crew, "done", lambda asked: driven.append(asked) or done(asked))
    lines = sweep(*flags)
    assert [sorted(asked) for asked in driven[:2]] == [
        ["learning_rate=0.01", "learning_rate=0.1"]
    ] * 2
    assert sweep(*flags)[-6:] == lines[-6:]
    monkeypatch.setattr(crew, "turns", lambda mesh: True)
    sweep(*flags, f"--workdir={tmp_path / 'turns'}")
    log = (tmp_path / "sweep" / "sweep.log").read_text()
    for name in driven[0]:
        beside, alone = (
            (tmp_path / place / name / "metrics.jsonl").read_text().splitlines()
            for place in ("sweep", "turns")
        )
        assert f"{name}: batch 2/2" in log and len(beside) == len(alone) == 2
        for a, b in zip(map(json.loads, beside), map(json.loads, alone), strict=True):
            assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
            assert a["learning_rate"] == b["learning_rate"]
