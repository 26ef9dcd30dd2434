"""A seed that breaks stops alone, says where and why, and is left out of results."""

import csv
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from breaking import BREAKS, Breaking, breaking
from kill_config import get_config
from marks import slow
from tiny import tiny_learning

from ocssl_jax import (
    dotted,
    evaluate,
    experiment,
    failed,
    judging,
    probing,
    seeds,
    settings,
)
from ocssl_jax.checkpoint import Checkpoints
from ocssl_jax.core import Stream
from ocssl_jax.errors import Interrupted, TrainingError
from ocssl_jax.faults import Fault, Standing, fault, told
from ocssl_jax.mesh import make_mesh
from ocssl_jax.sweep import ledger

FINE = {"loss": 1.0, "loss_ssl": 1.0, "gradient_norm": 1.0, "parameter_norm": 1.0}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"loss_ssl": np.nan, "loss": np.nan}, "loss_ssl is nan"),
        ({"loss": np.inf}, "loss is inf"),
        ({"gradient_norm": np.nan}, "gradient_norm is nan"),
        ({"parameter_norm": -np.inf}, "parameter_norm is -inf"),
        (
            {"loss_ssl": np.nan, "loss_align": np.inf, "loss": np.nan},
            "loss_ssl is nan, loss_align is inf",
        ),
    ],
)
def test_a_fault_names_what_is_not_finite(bad, words):
    assert fault(3, FINE) is None
    assert fault(3, FINE | bad) == Fault(3, words)


def test_standing_stops_one_after_the_other_and_then_the_run():
    standing = Standing((5, 9))
    seen = [[FINE, FINE], [FINE, FINE | {"loss": np.nan}], [FINE, FINE]]
    assert standing.find(10, seen) == {9: Fault(12, "loss is nan")}
    (line,) = standing.stop(standing.find(10, seen), latest=10)
    assert "loss is nan at stream batch 12, seed 9" in line
    assert standing.going == [5] and standing.mask == [True, False]
    assert standing.shown(10, seen) == [[FINE, FINE], [FINE, None], [FINE, None]]
    again = Standing((5, 9))
    again.restore(json.loads(json.dumps(standing.as_json())))
    assert again.stopped == standing.stopped
    with pytest.raises(
        TrainingError, match=r"batch 20, seed 5; no seed is left; .* 10"
    ):
        again.stop({5: Fault(20, "loss is inf")}, latest=10)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("faults")


def config_for(place, **fields):
    config = get_config()
    config.stream.data_dir = str(place / "data")
    config.strategy.name, config.probe.names = "none", ("ridge",)
    for name, value in fields.items():
        dotted.put(config, name.replace("__", "."), value)
    return settings.resolve(config, {})


def rows(folder):
    return list(csv.DictReader((folder / "accuracy.csv").open()))


def rewrite(path, kept):
    lines = [",".join(kept[0]), *(",".join(row.values()) for row in kept)]
    path.write_text("\n".join(lines) + "\n")


def files(folder):
    """What a resumed run must leave as the undisturbed one did."""
    names = ("metrics.jsonl", "accuracy.csv", "encoder/seed_0.safetensors")
    return [(folder / name).read_bytes() for name in names]


def log(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def broken(place):
    """A run of seeds 0, 1 and 2 of which 1 broke, and what it said."""
    with pytest.MonkeyPatch.context() as patch:
        breaking(patch)
        folder = place / "broken"
        table = experiment.run(config_for(place, seeds=(0, 1, 2)), folder, {})
    return folder, table


def test_only_the_broken_seed_stops(broken):
    folder, table = broken
    words = f"seed 1 stopped at stream batch {BREAKS} (loss_ssl is nan"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["seeds"] == [0, 2]
    assert summary["stopped"]["1"]["step"] == BREAKS
    assert len(summary["metrics"]["FA"]["per_seed"]) == 2
    assert len(summary["baselines"]["random"]["FA"]["per_seed"]) == 2
    assert summary["validation"]["ridge"]["mean"] is not None
    assert words in table and "over 2 seeds" in table
    assert words in (folder / "report" / "index.html").read_text()
    last = {
        s: max(int(r["after_experience"]) for r in rows(folder) if r["seed"] == s)
        for s in "012"
    }
    assert last == {"0": 2, "1": 0, "2": 2}  # what was measured before it broke stays
    for line in log(folder):
        values = line["per_seed"]["loss"]
        assert (values[1] is None) == (line["step"] >= BREAKS)
        assert line["loss"] == pytest.approx(np.mean([v for v in values if v]))
    names = sorted(p.name for p in (folder / "encoder").glob("*.safetensors"))
    assert names == ["seed_0.safetensors", "seed_2.safetensors"]


def test_the_others_are_what_they_are_without_it(broken, place, monkeypatch):
    folder, _ = broken
    breaking(monkeypatch)  # the very same program
    experiment.run(config_for(place, seeds=(0, 2)), place / "two", {})
    ours = [row for row in rows(folder) if row["seed"] != "1"]
    assert ours == rows(place / "two")
    for seed in (0, 2):
        name = f"encoder/seed_{seed}.safetensors"
        assert (folder / name).read_bytes() == (place / "two" / name).read_bytes()


def test_a_broken_seed_stays_stopped_when_resumed(broken, place, monkeypatch):
    folder, table = broken
    breaking(monkeypatch)
    before = (folder / "metrics.jsonl").read_bytes(), rows(folder)
    (folder / "summary.json").unlink()
    # Go on from the checkpoint before the last, which was saved after it broke.
    (folder / "checkpoints" / "12").rename(place / "dropped")
    kept = [row for row in rows(folder) if row["after_experience"] != "2"]
    rewrite(folder / "accuracy.csv", kept)
    again = experiment.run(config_for(place, seeds=(0, 1, 2)), folder, {})
    assert again.splitlines()[1:] == table.splitlines()[1:]  # the first has seconds
    assert ((folder / "metrics.jsonl").read_bytes(), rows(folder)) == before


@pytest.mark.slow
def test_features_that_are_not_finite_stop_their_seed_too(place, monkeypatch):
    """Found while probing, after the checkpoint; a kill between must not forget it."""

    def judged(*given, seed, after, met):
        if seed == 1 and after == 1:
            raise TrainingError("features are not finite")
        return probing.judge(*given, seed=seed, after=after, met=met)

    monkeypatch.setattr(judging, "judge", judged)
    config, folder = config_for(place, checkpoint__keep=9), place / "features"
    table = experiment.run(config, folder, {})
    words = "seed 1 stopped at stream batch 8 (the encoder's features are not finite)"
    assert words in table
    before = files(folder)
    for left in ("summary.json", "checkpoints/12", "checkpoints/9"):
        (folder / left).rename(place / f"left-{Path(left).name}")
    kept = [r for r in rows(folder) if r["after_experience"] != "2"]
    rewrite(folder / "accuracy.csv", kept)
    again = experiment.run(config, folder, {})  # from the checkpoint before the probe
    assert again.splitlines()[1:] == table.splitlines()[1:]
    assert files(folder) == before


def test_later_probing_leaves_it_out_too(broken, capsys):
    folder, _ = broken
    evaluate.main([str(folder), "--probe=knn"])
    assert "over 2 seeds" in capsys.readouterr().out


def test_a_sweep_does_not_choose_a_point_that_lost_a_seed(broken):
    folder, _ = broken
    found = ledger.result(folder, probe="ridge", failed=None)
    assert found.status == "failed" and "seed 1" in found.reason


def test_if_all_break_the_run_does(place, monkeypatch):
    breaking(monkeypatch)
    folder = place / "all"
    config = config_for(place, seeds=(1,))
    with pytest.raises(
        TrainingError, match=rf"loss_ssl is nan.* batch {BREAKS}, seed 1"
    ):
        experiment.run(config, folder, {})
    assert not (folder / "summary.json").exists()
    assert f"loss_ssl is nan at stream batch {BREAKS}, seed 1" in failed.reason(folder)
    saved = Checkpoints(folder / "checkpoints", keep=9)
    assert saved.latest() == 4  # before it broke
    saved.close()


def test_debug_names_the_first_operation(place, monkeypatch):
    breaking(monkeypatch)
    config = config_for(place, seeds=(1,), debug=True)
    with pytest.raises(TrainingError, match=r"first in log in .*breaking\.py:\d+"):
        experiment.run(config, place / "all", {})  # resumed: debug decides no result
    assert "first in log" in failed.reason(place / "all")


def test_a_run_that_goes_on_takes_back_that_it_broke_down(place):
    assert failed.reason(place / "all")
    experiment.run(config_for(place, seeds=(1,)), place / "all", {})  # breaks no more
    assert not (place / "all" / failed.FILE).exists()


def test_why_a_run_broke_down_is_written_into_its_own_folder_alone(place):
    folder = place / "own"
    folder.mkdir()
    with pytest.raises(TrainingError), failed.kept(folder):
        folder.rename(place / "moved")
        folder.mkdir()
        raise TrainingError("loss is nan")
    assert not failed.reason(folder) and not failed.reason(place / "moved")
    with pytest.raises(TrainingError), failed.kept(folder), failed.named("baseline er"):
        raise TrainingError("loss is nan")
    assert failed.reason(folder) == "baseline er: loss is nan"
    assert [p.name for p in folder.iterdir()] == [failed.FILE]
    with pytest.raises(Interrupted), failed.kept(place):
        raise Interrupted("stopped")
    assert not failed.reason(place)


@pytest.mark.parametrize("form", ["in_turn", *slow("vmapped", "looped")])
def test_a_broken_seed_leaves_the_others_alone_however_they_are_carried(form):
    learning = tiny_learning(strategy__name="none", passes=1)
    step = Breaking(learning).step
    mesh = make_mesh(jax.devices()[:1], seeds=2, seed=0, data=0)
    carrier = (
        seeds.in_turn(learning.init, step)
        if form == "in_turn"
        else seeds.on_mesh(learning.init, step, mesh, vmap=form == "vmapped")
    )
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (8, 2, 4, 8, 8, 1), np.uint8)
    image[:, 1] = image[:, 0]
    index = np.arange(64, dtype=np.int32).reshape(8, 2, 4)
    feed = Stream(image, index, np.ones((8, 2, 4), bool), np.zeros((8, 2), bool))

    def final(pair):
        states = carrier.init(pair, feed)
        standing, seen = Standing(pair), []
        for first in (0, 4):
            part = seeds.at(feed, slice(first, first + 4))
            states, metrics = carrier.learn(states, part, 4, standing.mask)
            metrics = carrier.metrics(metrics, 4)
            standing.stop(standing.find(first, metrics), latest=None)
            seen += standing.shown(first, metrics)
        return carrier.split(states)[0], seen, standing

    with_broken, seen, standing = final((0, 1))
    alone, others, _ = final((0, 2))
    assert list(standing.stopped) == [1] and standing.stopped[1].step == BREAKS
    for a, b in zip(
        jax.tree.leaves(with_broken.params), jax.tree.leaves(alone.params), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert [s[0]["loss"] for s in seen] == [s[0]["loss"] for s in others]
    assert [s[1] is None for s in seen] == [t >= BREAKS for t in range(1, 9)]


def test_older_summaries_tell_of_nobody():
    assert told({"seeds": [0]}) == []
