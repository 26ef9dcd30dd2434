"""Osiris-R: closed forms, a NumPy oracle of its losses, and what it leaves alone."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import BATCH, bits, stream, tiny_config, tiny_learning

from ocssl_jax.core import Batch, Features, Learner, Outputs
from ocssl_jax.errors import UsageError
from ocssl_jax.heads import Projector
from ocssl_jax.learning import optimizer_of
from ocssl_jax.losses import masked_mean, nt_xent
from ocssl_jax.methods import METHODS
from ocssl_jax.methods.simclr import simclr
from ocssl_jax.strategies.osiris_r import consolidation, cross_task

REPLAY, F, D = 6, 7, 5
TEMPERATURE = 0.1
ARRIVAL = next(stream(1, short=False))


def cosines(a, b):
    length = lambda x: np.sqrt((x**2).sum(axis=-1, keepdims=True) + 1e-12)
    return (a / length(a)) @ (b / length(b)).T / TEMPERATURE


def apart(a, c):
    """X(a | c) of real rows [2 n d], row by row."""
    terms = []
    flat = c.reshape(-1, c.shape[-1])
    for view in (0, 1):
        for i in range(a.shape[1]):
            positive = cosines(a[view, i : i + 1], a[1 - view, i : i + 1])[0]
            logits = np.concatenate([positive, cosines(a[view, i : i + 1], flat)[0]])
            terms.append(np.log(np.exp(logits).sum()) - logits[0])
    return np.mean(terms)


def contrasted(u):
    """NT-Xent of real rows [2 n d], row by row."""
    n, terms = u.shape[1], []
    flat = u.reshape(2 * n, -1)
    for i in range(2 * n):
        logits = cosines(flat[i : i + 1], flat)[0]
        others = np.delete(logits, i)
        terms.append(np.log(np.exp(others).sum()) - logits[(i + n) % (2 * n)])
    return np.mean(terms)


def test_equal_embeddings_have_the_closed_form():
    r, b = 5, 3
    z, u = jnp.ones((2, b, D)), jnp.ones((2, r, D))
    new, old = jnp.ones(b, bool), jnp.ones(r, bool)
    x = partial(cross_task, temperature=TEMPERATURE)
    np.testing.assert_allclose(x(z, new, u, old), np.log(1 + 2 * r), rtol=1e-5)
    np.testing.assert_allclose(x(u, old, z, new), np.log(1 + 2 * b), rtol=1e-5)
    kept = masked_mean(nt_xent(u[0], u[1], old, temperature=TEMPERATURE), old)
    np.testing.assert_allclose(kept, np.log(2 * r - 1), rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_cross_task_equals_the_oracle_and_ignores_masked_rows(seed):
    rng = np.random.default_rng(seed)
    a, c = rng.normal(size=(2, 6, D)), rng.normal(size=(2, 9, D))
    a_mask, c_mask = rng.random(6) < 0.7, rng.random(9) < 0.7
    got = cross_task(a, a_mask, c, c_mask, temperature=TEMPERATURE)
    want = apart(a[:, a_mask], c[:, c_mask])
    np.testing.assert_allclose(got, want, rtol=1e-4)
    a[:, ~a_mask], c[:, ~c_mask] = 3.0, -4.0
    again = cross_task(a, a_mask, c, c_mask, temperature=TEMPERATURE)
    np.testing.assert_array_equal(got, again)


class World:
    """The part's loss on features that are given, with a batch of masked rows."""

    def __init__(self, ready=True, train_head=True):
        self.part = consolidation(temperature=TEMPERATURE, train_head=train_head)
        zeros = lambda m: Features(jnp.zeros((m, F)), jnp.zeros((m, D)), {})
        self.learner = SimpleNamespace(encode=lambda images: zeros(len(images)))
        init = jax.jit(lambda k: self.part.init(k, self.learner, ARRIVAL))
        self.params, self.state = init(jax.random.key(1))
        self.mask = np.array([1, 1, 0, 1, 1, 1, 1, 1, 1, 0], bool)
        self.mask[:REPLAY] &= ready
        self.z = np.zeros((2, len(self.mask), D), np.float32)
        normal = np.random.default_rng(0).normal(size=(2, len(self.mask), F))
        self.e = np.float32(normal)

    def terms(self, params, e):
        batch = Batch(
            views=jnp.zeros((2, len(self.mask), 1)),
            mask=jnp.asarray(self.mask),
            items={},
            replayed=REPLAY,
        )
        out = Outputs(jnp.zeros(len(self.mask)), e, self.z, {})
        return self.part.loss(params, self.state, self.learner, batch, out)


@pytest.mark.parametrize("train_head", [True, False])
def test_losses_equal_the_oracle_with_four_calls_of_the_head(train_head):
    world = World(train_head=train_head)
    weights = {"params": world.params if train_head else world.state}
    assert bool(bits(world.params)) == train_head
    assert bool(bits(world.state)) != train_head

    def h(view, rows):  # each call has batch statistics of its own, over real rows
        x = world.e[view, rows][world.mask[rows]]
        head = Projector(D, True, jnp.float32)
        y, _ = head.apply(weights, x, train=True, mutable=["batch_stats"])
        return np.asarray(y, np.float64)

    old, new = slice(0, REPLAY), slice(REPLAY, None)
    u, z = (np.stack([h(view, rows) for view in (0, 1)]) for rows in (old, new))
    terms = jax.jit(world.terms)(world.params, world.e)
    want = (apart(z, u) + apart(u, z)) / 2 / 2
    np.testing.assert_allclose(terms["cross"], want, rtol=1e-3)
    np.testing.assert_allclose(terms["past"], contrasted(u) / 2, rtol=1e-3)


def test_before_replay_nothing_is_added_and_no_gradient_flows():
    world = World(ready=False)
    total = lambda params, e: sum(world.terms(params, e).values())
    value, grads = jax.jit(jax.value_and_grad(total, (0, 1)))(world.params, world.e)
    assert value == 0
    assert all((g == 0).all() for g in bits(grads))
    # With replay both flow.
    world = World()
    total = lambda params, e: sum(world.terms(params, e).values())
    grads = jax.jit(jax.grad(total, (0, 1)))(world.params, world.e)
    assert all(np.isfinite(g).all() and (g != 0).any() for g in bits(grads))
    assert (np.asarray(grads[1])[:, ~world.mask] == 0).all()


def test_the_methods_own_loss_is_over_the_streams_rows():
    learning = tiny_learning(strategy__name="osiris_r")
    arrivals = list(stream(6, short=False))
    state = jax.jit(learning.init)(jax.random.key(0), arrivals[0])
    step, seen = jax.jit(learning.step), []
    for arrival in arrivals:
        before, (state, metrics) = state, step(state, arrival)
        seen.append(jax.device_get(metrics))
    assert [int(m["rows"]) for m in seen] == [BATCH] * 2 + [BATCH + REPLAY] * 4
    for i, m in enumerate(seen):
        parts = [m[f"loss_{name}"] for name in ("ssl", "cross", "past")]
        np.testing.assert_allclose(m["loss"], sum(parts), rtol=1e-5)
        assert all((part > 0) == (i >= 2) for part in parts[1:])

    learner = Learner(
        before.params["method"], before.model, learning.method, learning.prepare
    )
    noise = lambda key, x: jax.random.normal(key, (2, *x.shape))
    batch = learning.strategy.draw(
        jax.random.key(1), before.strategy, learner, arrivals[-1], noise
    )
    rows = np.arange(BATCH + REPLAY) >= REPLAY
    np.testing.assert_array_equal(batch.loss_mask, rows)
    loss = jax.jit(learning.method.loss)
    out = loss(learner.params, learner.model, batch, None)
    # The projector's batch statistics, too, are those of the stream's rows.
    np.testing.assert_allclose(out.z[:, rows].mean(axis=1), 0, atol=1e-5)
    want = nt_xent(*out.z[:, rows], np.ones(BATCH, bool), temperature=0.1)
    np.testing.assert_allclose(out.loss[rows], want, rtol=1e-4)
    assert (out.loss[~rows] == 0).all()
    # So there is no projection of a replayed row to remember.
    kept = learning.strategy.update(before.strategy, learner, batch, out)
    np.testing.assert_array_equal(kept[0].feature, before.strategy[0].feature)


def test_a_head_that_is_not_trained_stays_and_the_rate_may_be_another():
    config = tiny_config(strategy__name="osiris_r", fidelity="reference")
    learning = tiny_learning(strategy__name="osiris_r", fidelity="reference")
    arrivals = list(stream(4, short=False))
    start = jax.jit(learning.init)(jax.random.key(0), arrivals[0])
    state, step = start, jax.jit(learning.step)
    for arrival in arrivals:
        state, metrics = step(state, arrival)
    assert metrics["loss_cross"] > 0
    assert bits(start.strategy[1]) and not bits(start.params["strategy"])
    for a, b in zip(bits(start.strategy[1]), bits(state.strategy[1]), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(
        metrics["learning_rate"], 2 * config.optimizer.learning_rate
    )
    config.strategy.name = "er"
    rate = optimizer_of(config).learning_rate((), 0)
    np.testing.assert_allclose(rate, config.optimizer.learning_rate)


@pytest.mark.parametrize("strategy", ["osiris_r", "scale"])
def test_a_method_of_one_view_is_refused(strategy, monkeypatch):
    def one_view(backbone, *, projection, dtype):
        made = simclr(
            backbone,
            projection=projection,
            projector={},
            dtype=dtype,
            temperature=0.5,
        )
        return made._replace(views=1)

    monkeypatch.setitem(METHODS, "one_view", one_view)
    with pytest.raises(UsageError, match=f"{strategy}.*two views.*'one_view' has 1"):
        tiny_learning(strategy__name=strategy, method__name="one_view")
    tiny_learning(strategy__name="minred", method__name="one_view")
