"""Defining properties of replay, alignment and their chain."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from linear_method import install
from marks import slow
from tiny import BATCH, bits, stream, tiny_learning

from ocssl_jax.core import Learner
from ocssl_jax.memory import MEMORIES
from ocssl_jax.strategies import Strategy, chain
from ocssl_jax.strategies.base import stream_only
from ocssl_jax.strategies.replay import embedding, last_pass, replay
from ocssl_jax.strategies.teachers import ema

REPLAY = 6  # rows, as in `tiny`


def train(batches=6, seed=0, **fields):
    learning = tiny_learning(**fields)
    step, seen = jax.jit(learning.step), []
    arrivals = list(stream(batches, short=False))
    state = start = jax.jit(learning.init)(jax.random.key(seed), arrivals[0])
    for batch in arrivals:
        state, metrics = step(state, batch)
        seen.append(jax.device_get(metrics))
    return start, state, seen


def aligned(state):
    """The state of the strategy's alignment part."""
    return state.strategy[1]


def test_replay_starts_once_more_rows_are_held_than_it_draws():
    _, _, seen = train(strategy__name="er")
    # After two batches 8 rows are held, the first number above 6: the third replays.
    rows = [int(m["rows"]) for m in seen]
    assert rows == [BATCH] * 2 + [BATCH + REPLAY] * 4
    assert [int(m["memory_images"]) for m in seen] == [4, 8, 12, 16, 20, 24]


def test_climb_replays_as_soon_as_the_memory_holds_a_replay_batch():
    _, _, seen = train(strategy__name="climb", batches=10)
    for before, now in itertools.pairwise(seen):
        ready = int(before["memory_images"]) >= REPLAY
        assert int(now["rows"]) == BATCH + REPLAY * ready


def test_alignment_of_weight_zero_is_plain_replay(monkeypatch):
    install(monkeypatch)  # without ReLU, whose sides the two programs' rounding flips
    linear = {"method__name": "linear"}
    _, plain, _ = train(strategy__name="er", strategy__er__memory="fifo", **linear)
    _, state, seen = train(strategy__name="cla_e", strategy__align_weight=0.0, **linear)
    for a, b in zip(
        bits(plain.params["method"]), bits(state.params["method"]), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert all(m["loss_align"] == 0 for m in seen)


@pytest.mark.slow
def test_alignment_changes_training_and_stays_within_its_bounds():
    _, plain, _ = train(strategy__name="cla_e", strategy__align_weight=0.0)
    _, state, seen = train(strategy__name="cla_e", strategy__align_weight=2.0)
    assert not np.allclose(
        *(bits(s.params["method"]["encoder"])[-1] for s in (plain, state))
    )
    assert all(m["loss_align"] == 0 for m in seen[:2])  # nothing is replayed yet
    assert all(m["loss_align"] != 0 and abs(m["loss_align"]) <= 2.0 for m in seen[2:])


@pytest.mark.slow
def test_ema_of_decay_0_is_the_learner_and_of_decay_1_its_start():
    start, state, _ = train(strategy__name="cla_e", strategy__ema_decay=0.0)
    for part, teacher in aligned(state).teacher.items():
        for a, b in zip(bits(teacher), bits(state.params["method"][part]), strict=True):
            np.testing.assert_array_equal(a, b)
    start, state, _ = train(strategy__name="cla_e", strategy__ema_decay=1.0)
    for part, teacher in aligned(state).teacher.items():
        for a, b in zip(bits(teacher), bits(start.params["method"][part]), strict=True):
            np.testing.assert_array_equal(a, b)


def test_ema_follows_its_recurrence():
    learning = tiny_learning(strategy__name="cla_e", strategy__ema_decay=0.7, passes=1)
    batch = next(stream(1, short=False))
    before = learning.init(jax.random.key(0), batch)
    after, _ = jax.jit(learning.step)(before, batch)
    old, new = before.params["method"], after.params["method"]
    for part, teacher in aligned(after).teacher.items():
        for t, a, b in zip(
            bits(teacher), bits(old[part]), bits(new[part]), strict=True
        ):
            np.testing.assert_allclose(t, 0.7 * a + 0.3 * b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("fidelity", ["paper", *slow("reference")])
def test_fidelity_decides_what_climb_trains_and_averages(fidelity):
    start, state, _ = train(
        strategy__name="climb", strategy__ema_decay=0.9, batches=8, fidelity=fidelity
    )
    paper = fidelity == "paper"
    assert bool(bits(state.params["strategy"])) == paper  # handed to the optimizer
    assert bool(bits(aligned(state).head)) == (not paper)
    if paper:
        head = zip(
            bits(start.params["strategy"]), bits(state.params["strategy"]), strict=True
        )
        assert all(not np.array_equal(a, b) for a, b in head)
    else:
        for a, b in zip(
            bits(aligned(start).head), bits(aligned(state).head), strict=True
        ):
            np.testing.assert_array_equal(a, b)
    moved = {
        part: not np.array_equal(
            bits(aligned(start).teacher[part])[-1],
            bits(aligned(state).teacher[part])[-1],
        )
        for part in ("encoder", "projector")
    }
    assert moved == {"encoder": True, "projector": paper}


def test_embedding_for_the_memory_moves_running_statistics_only_in_the_reference():
    arrival = next(stream(1, short=False))
    learning = tiny_learning(strategy__name="none")
    state = learning.init(jax.random.key(0), arrival)
    learner = Learner(
        state.params["method"], state.model, learning.method, learning.prepare
    )
    features = {}
    for train_mode in (False, True):
        seen = embedding(train=train_mode)(learner, arrival, None)
        features[train_mode] = seen.z
        same = map(np.array_equal, bits(seen.model), bits(state.model))
        assert all(same) == (not train_mode)
    np.testing.assert_allclose(features[False], learner.embed(arrival.image), rtol=1e-5)
    # With batch statistics every projected dimension has mean 0 over the batch.
    np.testing.assert_allclose(features[True].mean(axis=0), 0, atol=1e-5)
    assert not np.allclose(features[False].mean(axis=0), 0, atol=1e-3)


def test_the_memory_encodes_with_the_statistics_that_admission_left():
    arrival = next(stream(1, short=False))
    learning = tiny_learning(strategy__name="none")
    state = learning.init(jax.random.key(0), arrival)
    learner = Learner(
        state.params["method"], state.model, learning.method, learning.prepare
    )
    encode = lambda key, state, items, *_, embed: embed(items["image"])
    memory = MEMORIES["fifo"](8, feature_decay=0.5)._replace(add=encode)
    part = replay(memory, 3, start=4, admit=embedding(train=True))
    encoded, model = part.end(jax.random.key(1), None, learner, arrival, None)
    now = dataclasses.replace(learner, model=model).embed(arrival.image)
    np.testing.assert_array_equal(encoded, now)
    assert not np.allclose(encoded, learner.embed(arrival.image), atol=1e-3)


def test_chain_of_nothing_is_no_strategy():
    assert chain().draw is stream_only
    assert tiny_learning(strategy__name="none").strategy == Strategy()


def test_chain_refuses_two_draws():
    part = replay(MEMORIES["fifo"](8, feature_decay=0.5), 3, start=1, admit=last_pass)
    with pytest.raises(ValueError, match="one part may have a draw"):
        chain(part, part)


def test_a_teacher_of_unknown_parts_is_refused():
    with pytest.raises(ValueError, match="predictor"):
        ema(0.9, parts=("encoder", "predictor"))
