"""ER-MIR against a NumPy oracle stepped beside it, and what replay of the past is."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from perceptron import losses, slopes, weights
from tiny import bits, stream, tiny_learning

from ocssl_jax import retrieval
from ocssl_jax.core import Learner
from ocssl_jax.losses import masked_mean
from ocssl_jax.optim import make_optimizer
from ocssl_jax.schedules import constant
from ocssl_jax.step import make_step
from ocssl_jax.strategies.base import stream_only
from ocssl_jax.strategies.past import UNKNOWN

RATE, R, C = 0.5, 6, 9
PLAIN = {
    "method__name": "supervised",
    "augment__name": "none",
    "passes": 1,
    "optimizer__momentum": 0.0,
    "optimizer__weight_decay": 0.0,
    "optimizer__learning_rate": RATE,
}
ER = {"strategy__er__past_only": True, "strategy__er__apart": True}


@cache
def learning(name="er_mir", **fields):
    return tiny_learning(strategy__name=name, **{**PLAIN, **ER, **fields})


@cache
def batches(count=14):
    return list(stream(count, short=False, labelled=True))


@cache
def stepper(made):
    return jax.jit(made.step)


def trained(made, count=12):
    state = made.init(jax.random.key(0), batches()[0])
    for batch in batches()[:count]:
        state, metrics = stepper(made)(state, batch)
    return state, metrics


def learner_of(made, state):
    return Learner(state.params["method"], state.model, made.method, made.prepare)


def drawn(made, state, batch, key=3):
    """The batch of a pass, as `draw` makes it, and the strategy's state before it."""
    learner = learner_of(made, state)
    kept, _ = made.strategy.begin(jax.random.key(9), state.strategy, learner, batch)
    augment = lambda key, image: made.prepare(image)[None]
    found = made.strategy.draw(jax.random.key(key), kept, learner, batch, augment)
    return found, kept


def items_at(state, slot):
    return jax.tree.map(lambda x: np.asarray(x)[slot], state.memory.items)


def rows(made, items):
    x = np.asarray(made.prepare(jnp.asarray(items["image"])), np.float64)
    return x.reshape(len(x), -1), np.asarray(items["label"])


@pytest.mark.parametrize("score", ["mi1", "mi2"])
def test_choice_and_step_are_those_of_an_oracle(score):
    made = learning(strategy__er_mir__score=score)
    state, _ = trained(made)
    best = np.array(state.strategy.memory.feature[:, 0], np.float64)
    assert (best < UNKNOWN).sum() > 5  # of rows that were scored before
    batch = batches()[12]
    found, kept = drawn(made, state, batch)
    slot, lowest, real = (np.asarray(part) for part in found.kept[:3])
    assert real.all() and len(slot) == C

    w = weights(state.params["method"])
    items = items_at(kept, slot)
    x, y = rows(made, items)
    new = rows(made, batch.items())
    ahead = [a - RATE * g for a, g in zip(w, slopes(w, *new), strict=True)]
    now, then = losses(w, x, y), losses(ahead, x, y)
    np.testing.assert_allclose(
        lowest, np.minimum(now, best[slot]), rtol=1e-4, atol=1e-5
    )
    scores = then - (now if score == "mi1" else np.minimum(now, best[slot]))
    order = np.argsort(-scores)
    assert scores[order[R - 1]] - scores[order[R]] > 1e-5  # no tie decides
    chosen = np.asarray(found.items["id"][:R])
    assert set(chosen) == set(items["id"][order[:R]])

    # The step goes along the sum of two means, both at the present weights.
    old = x[order[:R]], y[order[:R]]
    total = [a + b for a, b in zip(slopes(w, *new), slopes(w, *old), strict=True)]
    expected = [a - RATE * g for a, g in zip(w, total, strict=True)]
    after, _ = stepping(made, found)(state, batch)
    for a, b in zip(weights(after.params["method"]), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
    # And afterwards the lowest losses of all candidates are kept.
    held = np.asarray(after.strategy.memory.feature[:, 0])
    still = np.asarray(after.strategy.memory.items["id"])[slot] == items["id"]
    np.testing.assert_array_equal(held[slot][still], lowest[still])


def stepping(made, batch):
    """The step of a learner that draws `batch`."""
    optimizer = make_optimizer(
        "sgd",
        schedule=constant(1, peak=RATE, momentum=0.0),
        momentum_reset=False,
        weight_decay=0.0,
    )
    _, step = make_step(
        made.method,
        made.strategy._replace(draw=lambda *seen: batch),
        optimizer,
        augment=lambda key, image: made.prepare(image)[None],
        prepare=made.prepare,
        passes=1,
    )
    return jax.jit(step)


def test_a_virtual_step_is_one_of_plain_sgd():
    made, batch = learning(), batches()[0]
    state = made.init(jax.random.key(0), batch)
    learner = learner_of(made, state)
    augment = lambda key, image: made.prepare(image)[None]
    new = stream_only(jax.random.key(0), (), learner, batch, augment)
    ahead = retrieval.virtual_step(
        made.method, learner.params, learner.model, new, jax.random.key(1), rate=0.1
    )

    def loss(params):
        out = made.method.loss(params, learner.model, new, jax.random.key(1))
        return masked_mean(out.loss, new.mask)

    optimizer = optax.sgd(0.1)
    updates, _ = optimizer.update(
        jax.grad(loss)(learner.params), optimizer.init(learner.params)
    )
    expected = optax.apply_updates(learner.params, updates)
    for a, b in zip(bits(ahead), bits(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["er", "er_mir"])
def test_the_first_experience_is_fine_tuning(name):
    plain = learning("none")
    replaying = learning(name)
    a, _ = trained(plain, 5)
    b, _ = trained(replaying, 5)
    for x, y in zip(bits(a.params["method"]), bits(b.params["method"]), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)  # sums are rounded anew
    a, _ = trained(plain, 6)
    b, _ = trained(replaying, 6)
    pairs = zip(bits(a.params["method"]), bits(b.params["method"]), strict=True)
    assert max(np.abs(x - y).max() for x, y in pairs) > 1e-3


def test_as_many_candidates_as_are_replayed_is_plain_replay():
    mir = learning(strategy__er_mir__candidates=R)
    state, _ = trained(mir)
    a, _ = drawn(mir, state, batches()[12])
    b, _ = drawn(learning("er"), state, batches()[12])
    assert sorted(a.items["id"]) == sorted(b.items["id"])


def test_only_earlier_experiences_are_drawn_and_all_of_them_alike():
    made = learning("er")
    state, _ = trained(made, 13)  # the third experience's third batch is to come
    held = state.strategy.memory.items
    past = np.asarray(held["task"]) < 2
    assert 0 < past.sum() < len(past)
    draws = [drawn(made, state, batches()[13], key)[0] for key in range(300)]
    ids = np.concatenate([np.asarray(d.items["id"][: d.replayed]) for d in draws])
    assert set(ids) == set(np.asarray(held["id"])[past])
    counts = np.unique(ids, return_counts=True)[1]
    expected = 300 * R / past.sum()
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_fewer_rows_than_are_replayed_do_not_count_twice():
    made = learning("er", strategy__memory_size=10, strategy__er__memory="fifo")
    state, _ = trained(made, 7)  # two batches of the second experience, of four rows
    batch, _ = drawn(made, state, batches()[7])
    assert batch.replayed == R and int(batch.replay_mask.sum()) == 2
    assert (
        np.asarray(batch.items["task"][:R])[np.asarray(batch.replay_mask)] == 0
    ).all()


def test_a_row_that_replaces_another_has_no_lowest_loss():
    made = learning(strategy__er_mir__score="mi2", strategy__er_mir__memory="fifo")
    state, _ = trained(made, 12)
    newest = np.asarray(state.strategy.memory.items["id"]) >= 44  # of the last batch
    held = np.asarray(state.strategy.memory.feature[:, 0])
    assert newest.sum() == 4
    assert (held[newest] == np.float32(UNKNOWN)).all() and (held < UNKNOWN).any()


def test_the_released_code_keeps_lowest_losses_by_position():
    """Of the rows that may be drawn, in slot order; from ln k, and never forgotten."""
    fields = {"strategy__er_mir__lowest_by_position": True}
    made = learning(strategy__er_mir__score="mi2", **fields)
    first = made.init(jax.random.key(0), batches()[0]).strategy.lowest
    np.testing.assert_allclose(first, np.log(10), rtol=1e-6)
    state, _ = trained(made)
    before = np.asarray(state.strategy.lowest)
    batch, kept = drawn(made, state, batches()[12])
    slot, loss = np.asarray(batch.kept.slot), np.asarray(batch.kept.lowest)
    past = np.flatnonzero(np.asarray(kept.memory.items["task"]) != int(kept.task))
    place = np.searchsorted(past, slot)  # in the list without the present task
    assert (past[place] == slot).all() and (place != slot).any()
    now = losses(weights(state.params["method"]), *rows(made, items_at(kept, slot)))
    np.testing.assert_allclose(loss, np.minimum(now, before[place]), rtol=1e-4)
    after, _ = stepping(made, batch)(state, batches()[12])
    expected = before.copy()
    expected[place] = np.minimum(before[place], loss)
    np.testing.assert_array_equal(after.strategy.lowest, expected)


def test_the_loss_is_the_sum_of_both_means():
    _, metrics = trained(learning(), 12)
    total = metrics["loss_supervised"] + metrics["loss_replay"]
    assert metrics["loss_replay"] > 0
    np.testing.assert_allclose(metrics["loss"], total, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"strategy__er_mir__score": "mi3"}, "score must be one of mi1, mi2"),
        (
            {"strategy__er_mir__candidates": 5},
            "candidates must be replay_size 6 to memory",
        ),
        ({"strategy__er_mir__memory": "minred"}, "memory must be one of reservoir"),
    ],
)
def test_settings_that_cannot_be_are_told(fields, words):
    with pytest.raises(Exception, match=f"^config.strategy.er_mir: {words}"):
        tiny_learning(strategy__name="er_mir", **{**PLAIN, **fields})
