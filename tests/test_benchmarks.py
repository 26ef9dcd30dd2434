"""What measurements rest on: honest tables, separate processes, parts that add up."""

import json

import jax
import numpy as np
import pytest
from linear_method import install, noisy
from tiny import SHAPE, bits, stream, tiny_config

from benchmarks import commandline, learners, objectives, parts, tables
from benchmarks.tables import Row
from benchmarks.timing import interleaved
from benchmarks.workers import Failed, Plan, running


def test_json_holds_medians_and_the_ratio_of_ours_to_torch(tmp_path):
    path = tmp_path / "found.json"
    rows = [
        Row("both", [0.1, 0.4, 0.2], [0.5, 0.4, 0.9], {"ours_peak_mib": 7}),
        Row("ours alone", [3.0]),
    ]
    tables.write(path, {"device": "cpu"}, rows)
    found = json.loads(path.read_text())
    assert found["machine"] == {"device": "cpu"}
    both, alone = found["rows"]
    assert (both["name"], both["ours_s"], both["torch_s"]) == ("both", 0.2, 0.5)
    assert both["ratio"] == pytest.approx(0.4)
    assert both["ours_spread_s"] == [0.1, 0.4]
    assert both["ours_peak_mib"] == 7
    assert alone["ours_s"] == 3.0
    assert alone["torch_s"] is alone["ratio"] is None


def test_clocks_take_turns_and_the_first_round_does_not_count():
    calls = []

    def clock(name, seconds):
        return lambda: calls.append(name) or seconds.pop(0)

    clocks = {"a": clock("a", [9, 1, 2]), "b": clock("b", [9, 3, 4])}
    assert interleaved(clocks, 2) == {"a": [1, 2], "b": [3, 4]}
    assert calls == ["a", "b"] * 3


def test_a_side_times_itself_in_a_process_of_its_own():
    with running(Plan("sides:napping", (0.05,), 1, "cpu")) as (worker,):
        assert 0.05 <= worker.clock("nap")() < 5
        worker.settle()
        memory = worker.close()
    assert memory.peak > 5  # MiB: a Python interpreter at least
    assert memory.card == 0


def test_a_side_that_fails_says_why():
    broken = Plan("sides:missing", (), 1, "cpu")
    with pytest.raises(Failed, match="no such library"), running(broken):
        pass
    with (
        running(Plan("sides:napping", (0.0,), 1, "cpu")) as (worker,),
        pytest.raises(Failed, match="ZeroDivisionError"),
    ):
        worker.clock("break")()


def test_an_unknown_case_is_refused(capsys):
    parser = commandline.parser("text", cases="letters", repeats=1)
    assert commandline.chosen(parser, " a, b", "abc") == ("a", "b")
    assert commandline.chosen(parser, "", "abc") == ("a", "b", "c")
    with pytest.raises(SystemExit) as ended:
        commandline.chosen(parser, "d", "abc")
    assert ended.value.code == 2
    assert "among a, b, c, got 'd'" in capsys.readouterr().err


def test_the_parts_of_a_step_are_the_step(monkeypatch):
    install(monkeypatch)  # without a ReLU, which rounding may switch
    monkeypatch.setattr(learners, "make_augment", noisy)
    config = tiny_config(
        method__name="linear",
        strategy__name="climb",
        strategy__climb__use_aligner=False,
    )
    subject = learners.subject(config, shape=SHAPE, mean=(0.5,), std=(0.3,))
    batches = list(stream(8))
    step, cut = jax.jit(subject.learning.step), parts.cut(subject)
    whole = jax.jit(subject.learning.init)(jax.random.key(0), batches[0])
    apart = jax.tree.map(lambda x: x.copy(), whole)
    for batch in batches:
        whole, metrics = step(whole, batch)
        seen = parts.walk(cut, apart, batch, config.passes)
        apart = seen.state
        mean = np.mean([terms["align"] for terms in seen.losses])
        np.testing.assert_allclose(mean, metrics["loss_align"], atol=1e-4)
    for a, b in zip(bits(whole), bits(apart), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    assert set(seen.seconds) == set(parts.NAMES)
    assert all(seconds > 0 for seconds in seen.seconds.values())


@pytest.mark.slow
def test_objectives_of_clip_cost_what_info_nce_costs():
    cost = {
        name: objectives.counted(objectives.made(name, "convnet", {}))
        for name in ("infonce", "gcl", "gdro")
    }
    for operations in cost.values():
        assert operations == pytest.approx(cost["infonce"], rel=0.1)
