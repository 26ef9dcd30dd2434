"""Encoders kept by a run, and judged again long after it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from kill_config import get_config

from ocssl_jax import dotted, encoders, evaluate, experiment, settings
from ocssl_jax.encoding import Encoder
from ocssl_jax.errors import Interrupted, UsageError
from ocssl_jax.evaluation import asked_for, name_of
from ocssl_jax.stop import Stop

ROOT = Path(__file__).parents[1]
CSV = "accuracy.csv"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def config_with(data_dir, **fields):
    """Two seeds of the plain learner on 12 stream batches, all of three tasks."""
    config = get_config()
    config.strategy.name, config.baselines = "none", ()
    config.stream.data_dir = str(data_dir)
    config.stream.update({"tasks": 3, "classes": 6})
    config.checkpoint.encoders = True
    config.probe.names = ("ridge", "linear")
    config.probe.scopes = ("joint", "upto", "separate")
    config.probe.ratios = (0.5,)
    config.probe.linear.epochs = 3
    for name, value in fields.items():
        dotted.put(config, name.replace("__", "."), value)
    return settings.resolve(config, {})


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    """A finished run that was probed in every way."""
    folder = tmp_path_factory.mktemp("run") / "run"
    config = config_with(data_dir, baselines=("random",))
    experiment.run(config, folder, {})
    return folder


@pytest.fixture
def copy(run, tmp_path):
    """The same run without results of evaluations, to be spoilt."""
    folder = tmp_path / "copy"
    kept = (encoders.FOLDER, encoders.FINAL)
    for path in run.rglob("*"):
        name = path.relative_to(run)
        if path.is_file() and (name.parts[0] in kept or str(name) == "config.json"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(path, folder / name)
    return folder


def rows(folder):
    return (folder / CSV).read_text()


def ridge_rows(folder, scope="ridge"):
    return [row for row in rows(folder).splitlines()[1:] if f",{scope}" in row]


def place(folder):
    (found,) = (folder / "evaluation").iterdir()
    return found


# --- what a run keeps ---


def test_a_run_keeps_the_encoders_of_every_experience(run):
    for seed in (0, 1):
        kept = [
            encoders.file(encoders.after(run, j), seed).read_bytes() for j in range(3)
        ]
        assert len(set(kept)) == 3
        final = encoders.file(run / encoders.FINAL, seed).read_bytes()
        assert kept[2] == final
    assert not list(run.rglob("*.draft"))


def test_without_the_field_only_the_final_encoder_is_kept(data_dir, tmp_path):
    config = config_with(
        data_dir, checkpoint__encoders=False, probe__names=(), stream__limit=2
    )
    experiment.run(config, tmp_path / "run", {})
    assert not (tmp_path / "run" / encoders.FOLDER).exists()
    assert list(encoders.found(tmp_path / "run", (0, 1), last=0)) == [0]


class DiesAfter(Stop):
    """Ends the run before anything follows the checkpoint of a stream batch."""

    def __init__(self, folder, batches):
        self._log, self._batches = folder / "metrics.jsonl", batches

    def check(self, where):
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        if len(lines) == self._batches:
            raise Interrupted(where)


def test_resume_neither_loses_nor_repeats_encoders(run, data_dir, tmp_path):
    """Stopped between the checkpoint of experience 1 and its encoders."""
    folder = tmp_path / "run"
    config = config_with(data_dir, probe__names=())
    with pytest.raises(Interrupted):
        experiment.run(config, folder, {}, DiesAfter(folder, 8))
    first = encoders.file(encoders.after(folder, 0), 0)
    written = first.stat().st_mtime_ns
    assert not encoders.after(folder, 1).exists()
    # One seed's file was written before the kill: it stays, the other is made good.
    half = encoders.file(encoders.after(folder, 1), 0)
    half.parent.mkdir(parents=True)
    half.write_bytes(encoders.file(encoders.after(run, 1), 0).read_bytes())
    kept = half.stat().st_mtime_ns
    experiment.run(config, folder, {})
    assert first.stat().st_mtime_ns == written and half.stat().st_mtime_ns == kept
    names = sorted(p.relative_to(run) for p in run.glob("encoder*/**/*.safetensors"))
    assert len(names) == 8
    for name in names:
        assert (folder / name).read_bytes() == (run / name).read_bytes()


def test_an_encoder_comes_back_as_it_was_saved(tmp_path):
    rng = np.random.default_rng(0)
    draw = lambda: rng.normal(size=(2, 3)).astype(np.float32)
    variables = {
        "params": {"Conv_0": {"kernel": draw()}, "head": {"a": {"bias": draw()}}},
        "batch_stats": {},
    }
    encoders.save(tmp_path / "seed_0.safetensors", variables)
    again = encoders.load(tmp_path / "seed_0.safetensors")
    assert jax.tree.structure(again) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    whole = (tmp_path / "seed_0.safetensors").read_bytes()
    for broken in (b"", whole[:-5], b"nonsense" * 9):
        (tmp_path / "seed_0.safetensors").write_bytes(broken)
        with pytest.raises(UsageError, match="no whole encoder"):
            encoders.load(tmp_path / "seed_0.safetensors")


def test_the_random_encoder_is_judged_in_every_scope(run):
    table = (run / "baselines" / "random" / CSV).read_text().splitlines()[1:]
    assert len(table) == len(rows(run).splitlines()[1:])
    upto = [row.split(",") for row in table if ",linear-upto-0.5," in row]
    assert {(j, i) for _, _, j, i, _ in upto} == {
        (str(j), str(i)) for j in range(3) for i in range(j + 1)
    }


# --- judged again ---


def test_the_same_settings_give_the_very_rows_of_the_run(copy, run, monkeypatch):
    encoded = []
    call = Encoder.__call__
    monkeypatch.setattr(
        Encoder, "__call__", lambda *args: encoded.append(1) or call(*args)
    )
    evaluate.main([str(copy)])
    assert rows(place(copy)) == rows(run)
    # Train, validation and test images of 3 x 2 encoders, for 2 x 3 ways to judge.
    assert len(encoded) == 3 * 6
    ours, theirs = (
        json.loads((folder / "summary.json").read_text())
        for folder in (place(copy), run)
    )
    for part in ("probe", "probes", "metrics", "test_sizes", "seeds"):
        assert ours[part] == theirs[part]
    assert ours["finished"] is True and ours["experiences"] == [0, 1, 2]


def test_a_run_without_probes_is_judged_later(run, data_dir, tmp_path, capsys):
    folder = tmp_path / "run"
    experiment.run(config_with(data_dir, probe__names=()), folder, {})
    capsys.readouterr()
    evaluate.main([str(folder), "--probe", "ridge,linear"])
    assert rows(place(folder)) == rows(run)
    told = capsys.readouterr().out
    assert "| none, linear-separate-0.5 |" in told and str(place(folder)) in told
    summary = json.loads((place(folder) / "summary.json").read_text())
    shown = summary["probes"]["ridge-upto-0.5"]["FA"]["mean"]
    assert f"{shown:.2f}" in told


def test_a_finished_run_has_its_final_encoders_in_any_case(copy, run):
    for path in (copy / encoders.FOLDER).rglob("*.safetensors"):
        path.unlink()
    evaluate.main([str(copy), "--probe=ridge"])
    last = [row for row in ridge_rows(run) if row.split(",")[2] == "2"]
    assert rows(place(copy)).splitlines()[1:] == last


def test_an_unfinished_run_is_judged_as_far_as_it_is(copy, run, capsys):
    for path in (copy / encoders.FINAL).iterdir():
        path.unlink()
    late = encoders.file(encoders.after(copy, 2), 1)
    held = late.rename(copy / "later")
    args = [str(copy), "--probe=ridge", "--scope=joint"]
    evaluate.main(args)
    summary = json.loads((place(copy) / "summary.json").read_text())
    assert summary["finished"] is False and summary["experiences"] == [0, 1]
    assert "of an unfinished run" in capsys.readouterr().out
    held.rename(late)
    evaluate.main(args)
    told = capsys.readouterr().out
    assert told.count("judged experience") == 2 and "judged experience 3" in told
    assert rows(place(copy)).splitlines()[1:] == ridge_rows(run, "ridge-0.5")
    evaluate.main(args)
    assert "judged experience" not in capsys.readouterr().out


def test_only_what_is_whole_counts_as_done(copy, run, capsys):
    """A header without rows, and the draft of a file that was being written."""
    args = [str(copy), "--probe=ridge", "--scope=joint"]
    folder = copy / "evaluation" / "ridge_0.5"
    folder.mkdir(parents=True)
    (folder / CSV).write_text("seed,probe,after_experience,task,accuracy\n")
    (folder / f"{CSV}.draft").write_text("seed,probe,after_experience,task,acc")
    evaluate.main(args)
    assert capsys.readouterr().out.count("judged experience") == 6
    assert rows(folder).splitlines()[1:] == ridge_rows(run, "ridge-0.5")


def test_a_label_budget_and_another_data_set(copy, run, data_dir):
    args = [str(copy), "--probe=ridge"]
    budget = ["--labels_per_class=5", "--scope=joint"]
    evaluate.main([*args, *budget])
    evaluate.main([*args, "--ratio=1", "--dataset=digits"])
    found = {p.name for p in (copy / "evaluation").iterdir()}
    assert found == {"ridge_5-labels", "ridge_on-digits"}
    few = rows(copy / "evaluation" / "ridge_5-labels").splitlines()[1:]
    assert len(few) == 2 * 3 * 3 and all(row.split(",")[1] == "ridge" for row in few)
    whole = rows(copy / "evaluation" / "ridge_on-digits").splitlines()[1:]
    assert len(whole) == 6 and all(row.split(",")[3] == "0" for row in whole)


@pytest.mark.slow
def test_weights_to_start_from_are_read_once(run, data_dir, tmp_path):
    """Neither resuming, nor reading results again, nor evaluating asks for the file."""
    path = tmp_path / "start.safetensors"
    path.write_bytes(encoders.file(run / encoders.FINAL, 0).read_bytes())
    folder = tmp_path / "run"
    config = config_with(
        data_dir, backbone__pretrained=str(path), probe__names=("ridge",)
    )
    with pytest.raises(Interrupted):
        experiment.run(config, folder, {}, DiesAfter(folder, 4))
    path.unlink()
    assert experiment.run(config, folder, {}) == experiment.run(config, folder, {})
    evaluate.main([str(folder), "--scope=joint"])
    with pytest.raises(UsageError, match="there is no file"):
        experiment.run(config, tmp_path / "other", {})


# --- on augmented images ---

LOOK = ("--probe=linear_augmented,ridge", "--scope=joint", "--ratio=1", "--epochs=2")
LOOKED = "linear_augmented+ridge_2-epochs_rates-"


def tried(folder):
    return [row.split(",") for row in (folder / "rates.csv").read_text().splitlines()]


def test_the_last_encoders_on_augmented_images(copy, run, capsys):
    evaluate.main([str(copy), *LOOK, "--rates=0.1,1", "--last"])
    told = capsys.readouterr().out
    assert place(copy).name == LOOKED + "0.1+1.0"
    header, *rows_ = tried(place(copy))
    assert header[-3:] == ["learning_rate", "held_out", "chosen"]
    # Two rates of each seed's last encoder, of which one is chosen.
    pairs = rows_[::2], rows_[1::2]
    assert [row[:4] for row in pairs[0]] == [
        [str(seed), "linear_augmented", "2", "0"] for seed in (0, 1)
    ]
    assert [int(a[-1]) + int(b[-1]) for a, b in zip(*pairs, strict=True)] == [1, 1]
    assert "linear_augmented: learning rates chosen: 0.1 (" in told
    assert told.count("judged experience 3") == 2 and "after 1 experience," in told
    found = {row.split(",")[1] for row in rows(place(copy)).splitlines()[1:]}
    assert found == {"linear_augmented", "ridge"}
    summary = json.loads((place(copy) / "summary.json").read_text())
    assert set(summary["metrics"]) == set(summary["probes"]["ridge"]) == {"FA"}


def test_all_encoders_follow_the_last_ones_and_nothing_is_done_twice(copy, capsys):
    args = [str(copy), *LOOK, "--rates=0.1,1"]
    evaluate.main([*args, "--last"])
    last, first = rows(place(copy)).splitlines()[1:], tried(place(copy))[1:]
    capsys.readouterr()
    evaluate.main(args)
    assert capsys.readouterr().out.count("judged experience") == 4
    assert set(last) < set(rows(place(copy)).splitlines())
    assert tried(place(copy))[1:5] == first and len(tried(place(copy))) == 1 + 3 * 4
    summary = json.loads((place(copy) / "summary.json").read_text())
    assert summary["experiences"] == [0, 1, 2] and summary["finished"] is True
    assert set(summary["metrics"]) > {"FA", "CA", "forgetting"}
    evaluate.main([*args, "--last"])
    again = json.loads((place(copy) / "summary.json").read_text())
    assert again == summary and "judged" not in capsys.readouterr().out


class StopsAmid(Stop):
    """Is asked to stop while images are encoded for the second encoder."""

    def check(self, where):
        if where.startswith("amid experience 3, seed 1"):
            raise Interrupted(f"stopped {where}")


def test_stopped_amid_an_encoder_it_begins_that_one_anew(copy, monkeypatch, capsys):
    args = [str(copy), *LOOK, "--rates=0.3", "--last"]
    with monkeypatch.context() as patch:
        patch.setattr("ocssl_jax.evaluation.Stop", StopsAmid)
        evaluate.main(args)
    assert "repeat the command to go on" in capsys.readouterr().out
    assert len(judged(place(copy) / CSV)) == 1
    evaluate.main(args)
    stopped = rows(place(copy))
    assert not (place(copy) / "rates.csv").exists()  # the one rate had no rival
    (place(copy) / CSV).unlink()
    evaluate.main(args)
    assert rows(place(copy)) == stopped


def test_a_damaged_list_of_rates_is_named(copy, capsys):
    args = [str(copy), *LOOK, "--rates=0.1,1", "--last"]
    evaluate.main(args)
    (place(copy) / "rates.csv").write_text("seed,probe\n0,x\n")
    capsys.readouterr()
    assert "rates.csv is damaged" in refused(args, capsys)


def test_rates_that_all_break_end_it_with_one_line(copy, capsys):
    with pytest.raises(SystemExit, match="1"):
        evaluate.main([str(copy), *LOOK, "--rates=1e37,1e38", "--last"])
    told = capsys.readouterr().err
    assert "any learning rate of 1e+37, 1e+38" in told and told.count("\n") == 1


def test_no_run_waits_for_it(data_dir, tmp_path):
    config = config_with(data_dir, probe__names=("linear_augmented",))
    with pytest.raises(UsageError, match="evaluate WORKDIR --probe linear_augmented"):
        experiment.run(config, tmp_path / "run", {})
    assert not (tmp_path / "run").exists()


# --- killed, stopped, refused ---


ALONE = ("--scope=upto",)  # compiles anew for every experience


def signalled(folder, kind, path):
    """Start the command, signal it once it has judged one more; its code and words."""
    before = len(judged(path))
    process = subprocess.Popen(
        [sys.executable, "-m", "ocssl_jax.evaluate", str(folder), *ALONE],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        },
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    while len(judged(path)) == before:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(kind)
    told, _ = process.communicate(timeout=120)
    return process.returncode, told


def judged(path):
    """Seeds and experiences that have rows."""
    lines = path.read_text().splitlines()[1:] if path.exists() else []
    return {tuple(line.split(",")[:3:2]) for line in lines}


@pytest.mark.slow
def test_an_interrupted_evaluation_goes_on_where_it_was(copy, run, capsys):
    path = copy / "evaluation" / "ridge+linear_upto_0.5" / CSV
    code, _ = signalled(copy, signal.SIGKILL, path)
    assert code == -signal.SIGKILL
    killed = len(judged(path))
    code, told = signalled(copy, signal.SIGTERM, path)
    assert code == 0 and "repeat the command to go on" in told
    stopped = len(judged(path))
    assert 0 < killed < stopped < 6
    assert not (path.parent / "summary.json").exists()
    evaluate.main([str(copy), *ALONE])
    assert capsys.readouterr().out.count("judged experience") == 6 - stopped
    expected = [row for row in rows(run).splitlines()[1:] if "-upto" in row]
    assert rows(path.parent).splitlines()[1:] == expected


def refused(args, capsys):
    with pytest.raises(SystemExit, match="2"):
        evaluate.main(list(map(str, args)))
    told = capsys.readouterr()
    assert not told.out and told.err.startswith("ocssl_jax.evaluate: ")
    assert told.err.count("\n") == 1 and "--config" not in told.err
    return told.err


def test_what_is_no_run_is_refused(copy, tmp_path, capsys):
    assert "no config.json" in refused([tmp_path / "nowhere"], capsys)
    line = refused([tmp_path / "nowhere", "--prob", "knn"], capsys)
    assert "unrecognized arguments: --prob" in line
    other = tmp_path / "other"
    other.mkdir()
    assert "no config.json" in refused([other], capsys)
    for text, words in (
        ("{", "damaged"),
        ('{"config": []}', "config.json"),
        ('{"config": {"passes": 3}}', "config.json"),
    ):
        (other / "config.json").write_text(text)
        assert words in refused([other], capsys)
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text((copy / "config.json").read_text())
    assert "checkpoint.encoders" in refused([bare], capsys)
    assert sorted(p.name for p in bare.iterdir()) == ["config.json"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--probe=ridge,knnn"], "linear, linear_sgd, ridge, knn, linear_augmented"),
        (["--probe=ridge", "--epochs=3"], "add --probe linear_augmented"),
        (["--probe=linear_augmented", "--epochs=0"], "at least 1"),
        (["--probe=linear_augmented", "--rates=1,0"], "each above 0"),
        (["--probe=linear_augmented", "--rates=,"], "at least one"),
        (["--probe=,"], "at least one name"),
        (["--scope=all"], "joint, upto, separate"),
        (["--ratio=0"], "shares in (0, 1]"),
        (["--ratio=0.1", "--labels_per_class=3"], "give the label budget once"),
        (["--labels_per_class=-1"], "0 or more"),
        (["--dataset=svhnn"], "digits, cifar10"),
        (["--dataset=digits", "--scope=upto"], "must be joint"),
        (["--dataset=cifar10"], "ocssl_jax.data.prepare cifar10"),
    ],
    ids=str,
)
def test_wrong_input_gets_one_line_and_writes_nothing(copy, capsys, args, words):
    assert words in refused([copy, *args], capsys)
    assert not (copy / "evaluation").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "WORKDIR"),
        (["run", "--ratio=half"], "float value: 'half'"),
        (["run", "--prob=knn,", "--nonesuch"], "--nonesuch"),
    ],
    ids=str,
)
def test_a_wrong_command_line_gets_one_line(capsys, args, words):
    with pytest.raises(SystemExit) as end:
        evaluate.main(args)
    told = capsys.readouterr().err
    assert end.value.code == 2 and told.count("\n") == 1 and words in told


def test_a_damaged_encoder_is_named(copy, capsys):
    path = encoders.file(encoders.after(copy, 1), 0)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-7])
    with pytest.raises(SystemExit, match="2"):
        evaluate.main([str(copy), "--probe=ridge", "--ratio=1"])
    assert str(path) in capsys.readouterr().err


def test_an_encoder_of_another_network_is_named(copy, capsys):
    path = encoders.file(encoders.after(copy, 0), 0)
    other = encoders.load(path)
    other["params"] = jax.tree.map(lambda x: np.repeat(x, 2, -1), other["params"])
    path.unlink()
    encoders.save(path, other)
    told = refused([copy, "--probe=ridge", "--scope=joint"], capsys)
    assert str(path) in told and "no encoder of this run's network" in told


def test_help_does_not_wait_for_jax():
    code = (
        "import sys, runpy; sys.argv = ['evaluate', '--help']\n"
        "try: runpy.run_module('ocssl_jax.evaluate', run_name='__main__')\n"
        "except SystemExit as end: print('CODE', end.code)\n"
        "print('jax' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    assert "--labels_per_class" in result.stdout
    assert result.stdout.split()[-3:] == ["CODE", "0", "False"]


def test_folders_of_evaluations_have_names_of_their_own(data_dir):
    fields = [
        {},
        {"probe.names": ("knn",)},
        {"probe.scopes": ("separate",)},
        {"probe.ratios": (0.1,)},
        {"probe.ratios": (0.1, 1.0)},
        {"probe.labels_per_class": 7},
        {"probe.names": ("linear_augmented",)},
        {"probe.names": ("linear_augmented",), "probe.linear_augmented.epochs": 7},
        {"probe.dataset": "mnist"},
        {"probe.dataset": "folder", "probe.data_dir": "a"},
        {"probe.dataset": "folder", "probe.data_dir": "b"},
    ]
    names = [name_of(asked_for(config_with(data_dir), f).probe) for f in fields]
    assert len(set(names)) == len(names)
    assert names[5] == "ridge+linear_joint+upto+separate_7-labels"
    for name in names:
        assert not set(name) - set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-._"
        )
