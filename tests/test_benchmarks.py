"""What measurements rest on: honest tables, separate processes, parts that add up."""

import json
import sys
from types import SimpleNamespace

import chex
import jax
import numpy as np
import pytest
from linear_method import install, noisy
from tiny import SHAPE, bits, stream, tiny_config, tiny_learning

from benchmarks import (
    agreement,
    commandline,
    gpu,
    learners,
    objectives,
    parts,
    seeds,
    start,
    tables,
)
from benchmarks.tables import Row
from benchmarks.timing import interleaved
from benchmarks.watch import watching
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


def test_our_side_starts_where_the_other_process_says(tmp_path):
    learning = tiny_learning(strategy__name="climb")
    batches = [*stream(3)]
    begun = jax.jit(learning.init)(jax.random.key(1), batches[0])
    state = jax.jit(learning.step)(begun, batches[1])[0]
    path = start.ours(tmp_path / "start.npz")
    start.save_state(path, state)
    chex.assert_trees_all_equal(start.saved_state(path, begun), state)


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


def test_logs_are_compared_number_by_number():
    log = {"loss": np.float32([[1, 2]]), "count": np.int32([[3, 4]])}
    assert agreement.differs(log, log) == (0.0, True)
    off = {"loss": np.float32([[1, 2.3]]), "count": np.int32([[3, 5]])}
    gap, equal = agreement.differs(off, log)
    assert gap == pytest.approx(0.1) and not equal
    found = {"kind": "exact", "differs": 0.0, "counts": "same"}
    assert not agreement.wrong(Row("", [1], more=found), 1e-3)
    for more in ({"differs": gap}, {"differs": np.nan}, {"counts": "other"}):
        assert agreement.wrong(Row("", [1], more=found | more), 1e-3)
    with pytest.raises(Failed, match="loss is not finite"):
        agreement.differs({**log, "loss": np.float32([[1, np.nan]])}, log)
    with pytest.raises(Failed, match="the sides log"):
        agreement.differs({"loss": log["loss"]}, log)


def test_devices_wait_from_metrics_to_the_next_launch(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("benchmarks.watch.time.perf_counter", lambda: now[0])

    def takes(seconds, result):
        def call(*_):
            now[0] += seconds
            return result

        return call

    made = seeds.Carrier(None, takes(0.5, "learnt"), takes(8.0, "seen"), list, list)
    monkeypatch.setattr("ocssl_jax.seeds.carrier", lambda *_, **__: made)
    with watching() as watch:
        from ocssl_jax.seeds import carrier

        carried = carrier()
        for _ in range(3):
            assert carried.learn() == "learnt"
            assert carried.metrics(None, 4) == "seen"
            now[0] += 1.5  # logs, checkpoints
    # The first chunk, which compiles, is left out: two follow, after 1.5 + 0.5 each.
    assert (watch.batches, watch.busy, watch.idle) == (8, 16.0, 4.0)


MODULES = {
    "fine": "",
    "broken": "sys.exit(3)",
    "slow": "import time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: pass",
}
STAGE = """import signal, sys
from pathlib import Path
signal.signal(signal.SIGTERM, signal.default_int_handler)
{body}
path = next(a for a in sys.argv if a.startswith("--json=")).partition("=")[2]
Path(path).write_text('{{"rows": ["{name}"]}}')
"""


def test_a_stage_that_fails_or_takes_too_long_does_not_end_the_others(
    tmp_path, monkeypatch
):
    for name, body in MODULES.items():
        path = tmp_path / f"stage_{name}.py"
        path.write_text(STAGE.format(name=name, body=body))
    stages = {n: gpu.Stage((f"stage_{n}",), 3 if n == "slow" else 60) for n in MODULES}
    monkeypatch.setattr(gpu, "STAGES", stages)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    args = SimpleNamespace(out=tmp_path, minutes=15, small=True, fields=[])
    order = ("broken", "slow", "fine")
    found = gpu.measured(order, args)
    ends = ["failed (3)", "stopped", "done"]
    assert [found[name]["ended"] for name in order] == ends
    assert "rows" not in found["broken"] and found["slow"]["rows"] == ["slow"]
    assert json.loads((tmp_path / "gpu.json").read_text()) == found
    # Again: what is done is kept, and without time nothing is begun.
    args.minutes = 0
    assert gpu.measured(order, args) == found


def test_stages_have_commands_that_there_are(tmp_path):
    args = SimpleNamespace(out=tmp_path, small=False, fields=["--config.seeds=1"])
    for name, stage in gpu.STAGES.items():
        line = gpu.command(name, args)
        assert line[:3] == [sys.executable, "-m", stage.arguments[0]]
        assert ("--config.seeds=1" in line) == stage.runs
        module = __import__(stage.arguments[0], fromlist=["main"])
        said = module.__doc__ + commandline.parser.__doc__
        own = {a.partition("=")[0] for a in stage.arguments if a.startswith("--")}
        assert all(f in said for f in own if not f.startswith("--config."))
