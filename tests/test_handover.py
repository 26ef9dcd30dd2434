"""A run goes on from where another one ended: learners as files, known experiences."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kill_config import get_config
from marks import slow
from safetensors.numpy import load_file, save_file
from tiny import bits, stream, tiny_learning

from ocssl_jax import accuracy, dotted, experiment, handover, settings
from ocssl_jax.errors import UsageError
from ocssl_jax.memory import reservoir


@pytest.fixture(scope="module", params=["simclr", *slow("byol")])
def learner(request, tmp_path_factory):
    """A learnt state, its method's name and its file."""
    made = tiny_learning(method__name=request.param)
    batches = list(stream(3, short=False))
    state, step = jax.jit(made.init)(jax.random.key(0), batches[0]), jax.jit(made.step)
    for batch in batches:
        state, _ = step(state, batch)
    folder = tmp_path_factory.mktemp("learner")
    handover.save(folder, {7: state}, made.method)
    return request.param, state, folder / "seed_7.safetensors"


def test_the_next_learner_starts_where_the_first_one_ended(learner):
    name, state, path = learner
    made = tiny_learning(method__name=name, method__pretrained=str(path))
    first = next(stream(1, short=False))
    for seed in (0, 1):
        again = jax.jit(made.init)(jax.random.key(seed), first)
        chex.assert_trees_all_equal(again.params["method"], state.params["method"])
        chex.assert_trees_all_equal(again.model, state.model)
        assert int(again.step) == 0
        assert not any(x.any() for x in bits(again.opt_state))


def test_another_learners_file_is_refused(learner):
    name, _, path = learner
    other = {"simclr": "simsiam", "byol": "simclr"}[name]
    with pytest.raises(UsageError, match="does not fit the method: it ") as told:
        tiny_learning(method__name=other, method__pretrained=str(path))
    assert str(told.value).startswith("config.method.pretrained: ")
    assert "\n" not in str(told.value)


def test_a_missing_or_damaged_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"method.pretrained: there is no file .*gone"):
        tiny_learning(method__pretrained=str(tmp_path / "gone"))
    path = tmp_path / "learner.safetensors"
    save_file({"params.encoder": np.full(3, np.nan, np.float32)}, path)
    with pytest.raises(UsageError, match="does not fit the method"):
        tiny_learning(method__pretrained=str(path))
    with pytest.raises(UsageError, match=r"must be '' with backbone.pretrained"):
        tiny_learning(method__pretrained="a", backbone__pretrained="b")


# Batches that pass by


def passed(strategy, batches, **fields):
    """A state before and after `batches` have passed by."""
    made = tiny_learning(strategy__name=strategy, **fields)
    before = jax.jit(made.init)(jax.random.key(0), batches[0])
    state, passing = before, jax.jit(made.passing)
    for batch in batches:
        state, metrics = passing(state, batch)
        assert metrics == {}
    return before, state


@pytest.mark.parametrize("strategy", ["er", "rals"])
def test_what_passes_by_is_remembered_and_not_learnt(strategy):
    batches = list(stream(5, short=True))  # 18 images
    before, state = passed(strategy, batches)
    chex.assert_trees_all_equal(state.params, before.params)
    chex.assert_trees_all_equal(state.model, before.model)
    chex.assert_trees_all_equal(state.opt_state, before.opt_state)
    assert int(state.step) == 5
    held = reservoir(24, feature_decay=0.5).rows(state.strategy)
    assert held[1].sum() == 18
    ids = np.asarray(held[0]["id"])[np.asarray(held[1])]
    assert len(set(ids.tolist())) == 18
    ranks = np.asarray(state.strategy.rank)[np.asarray(held[1])]
    assert len(set(ranks.tolist())) == 18  # each batch has numbers of its own


@pytest.mark.parametrize("strategy", ["none", "ewc"])
def test_classes_that_pass_by_are_met(strategy):
    """Later ones are told from them: cross entropy is among the classes met."""
    batches = list(stream(11, short=False, labelled=True))
    _, state = passed(strategy, batches[:10], method__name="clip")
    assert np.flatnonzero(state.model["seen"]).tolist() == [0, 1, 2, 3]
    made = tiny_learning(strategy__name=strategy, method__name="clip", passes=1)
    state, _ = jax.jit(made.step)(state, batches[10])
    assert np.flatnonzero(state.model["seen"]).tolist() == [0, 1, 2, 3, 4, 5]


def test_a_teacher_is_told_of_what_passes_by():
    """CaSSLe's teacher of the second experience is the learner of the first."""
    first, *rest = stream(2, short=False)
    _, state = passed("cassle", [first])
    assert bool(state.strategy.teacher.begun) and not bool(state.strategy.teacher.past)
    made = tiny_learning(strategy__name="cassle")
    batch = rest[0]._replace(boundary=jnp.asarray(True))
    state, metrics = jax.jit(made.step)(state, batch)
    assert bool(state.strategy.teacher.past) and metrics["loss_align"] != 0


# Whole runs


def config_with(data_dir, **fields):
    config = get_config()
    config.stream.data_dir, config.baselines = str(data_dir), ()
    for name, value in fields.items():
        dotted.put(config, name.replace("__", "."), value)
    return settings.resolve(config, {})


@pytest.mark.slow
def test_a_run_goes_on_from_an_offline_one(tmp_path):
    data, first, second = (tmp_path / name for name in ("data", "offline", "online"))
    config = config_with(
        data,
        seeds=(0,),
        strategy__name="none",
        stream__kind="iid",
        stream__classes=2,
        stream__tasks=1,
        stream__limit=3,
        checkpoint__learner=True,
    )
    experiment.run(config, first, {})
    path = first / "learner" / "seed_0.safetensors"
    encoder = load_file(first / "encoder" / "seed_0.safetensors")
    learner = load_file(path)
    some = next(name for name in encoder if name.startswith("params."))
    np.testing.assert_array_equal(
        encoder[some], learner[some.replace("params.", "params.encoder.")]
    )
    config = config_with(
        data,
        strategy__name="rals",
        stream__known=1,
        stream__limit=3,
        stream__val_ratio=0.0,
        probe__names=("linear_sgd",),
        method__pretrained=str(path),
    )
    experiment.run(config, second, {})
    lines = (second / "metrics.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in lines]
    assert [line["step"] for line in lines] == [5, 6, 7]  # four batches passed by
    assert [line["experience"] for line in lines] == [1, 1, 1]
    assert lines[0]["memory_images"] == 90
    after = second / "encoders" / "after_0" / "seed_0.safetensors"
    for name, tensor in load_file(after).items():
        np.testing.assert_array_equal(tensor, encoder[name])
    rows = accuracy.read(second / "accuracy.csv")
    assert {row.after_experience for row in rows} == {0, 1}
    summary = json.loads((second / "summary.json").read_text())
    assert (second / "report" / "selection.png").exists()
    assert summary["steps"] == 7 and summary["updates"] == 3 * config.passes
