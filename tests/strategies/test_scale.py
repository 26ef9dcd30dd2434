"""SCALE: its losses against loops in NumPy, and what each setting decides."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import BATCH, bits, stream, tiny_learning

from ocssl_jax.core import Batch, Learner
from ocssl_jax.losses import masked_mean, nt_xent
from ocssl_jax.strategies.replay import stream_rows
from ocssl_jax.strategies.scale import first_rows, past_features
from ocssl_jax.strategies.scale_losses import (
    BASE_TEMPERATURE,
    contrast,
    distillation,
    pseudo_positives,
)

REPLAY, N, F = 6, 9, 4


def unit(x):
    return x / np.sqrt((x**2).sum(axis=-1, keepdims=True) + 1e-12)


def softmax(x):
    x = np.exp(x - x.max())
    return x / x.sum()


def world(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(N) < 0.8
    centre = rng.normal(size=(3, F))[rng.integers(0, 3, N)]
    x = centre + 0.3 * rng.normal(size=(2, N, F))
    return x, mask, np.where(mask[None, :, None], x, 9.0)  # masked rows hold noise


def similarity(x, temperature, normalize):
    """S of real rows [2 n f], one row and one column at a time."""
    x = unit(x) if normalize else x
    n, total = x.shape[1], np.zeros((x.shape[1],) * 2)
    for u in (0, 1):
        for v in (0, 1):
            s = -(2 - 2 * x[u] @ x[v].T) / temperature
            for i in range(n):
                others = np.delete(np.arange(n), i)
                total[i, others] += softmax(s[i, others]) / 8
                total[others, i] += softmax(s[others, i]) / 8
    return total


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_pseudo_positives_stand_out(seed, normalize):
    x, mask, noise = world(seed)
    settings = {"temperature": 0.5, "ratio": 0.1, "normalize": normalize}
    got = np.asarray(pseudo_positives(jnp.asarray(noise), mask, **settings))
    s = similarity(x[:, mask], 0.5, normalize)
    np.testing.assert_allclose(s.sum(), len(s))  # rows and columns are distributions
    off = ~np.eye(len(s), dtype=bool)
    mean, top = s[off].mean(), s[off].max()
    want = off & (s > mean + 0.1 * (top - mean))
    np.testing.assert_array_equal(got[mask][:, mask], want)
    assert 0 < want.sum() < off.sum()
    assert not got[~mask].any() and not got[:, ~mask].any()


@pytest.mark.parametrize("seed", range(3))
def test_contrast_equals_the_oracle(seed):
    z, mask, noise = world(seed)
    rng = np.random.default_rng(10 + seed)
    rows = mask & (rng.random(N) < 0.6)
    alike = rng.random((N, N)) < 0.3
    alike = (alike | alike.T) & mask[:, None] & mask[None, :] & ~np.eye(N, dtype=bool)
    got = contrast(jnp.asarray(noise), mask, rows, alike, temperature=0.1)
    real, terms = np.flatnonzero(mask), []
    points = [(v, i) for v in (0, 1) for i in real]
    for v, i in [(v, i) for v in (0, 1) for i in np.flatnonzero(rows)]:
        logits = {
            (w, j): unit(z[v, i]) @ unit(z[w, j]) / 0.1
            for w, j in points
            if (w, j) != (v, i)
        }
        log_z = np.log(np.exp(list(logits.values())).sum())
        pulled = [s - log_z for (w, j), s in logits.items() if j == i or alike[i, j]]
        terms.append(np.mean(pulled))
    np.testing.assert_allclose(got, -0.1 / 0.07 * np.mean(terms), rtol=1e-4)


def test_contrast_without_pseudo_positives_is_nt_xent():
    z, mask, _ = world(0)
    z = jnp.asarray(z)
    nobody = np.zeros((N, N), bool)
    got = contrast(z, mask, mask, nobody, temperature=0.1)
    want = masked_mean(nt_xent(z[0], z[1], jnp.asarray(mask), temperature=0.1), mask)
    np.testing.assert_allclose(got, want * 0.1 / BASE_TEMPERATURE, rtol=1e-5)
    assert contrast(z, mask, np.zeros(N, bool), nobody, temperature=0.1) == 0


@pytest.mark.parametrize("seed", range(3))
def test_distillation_equals_the_oracle(seed):
    (p, q), mask, noise = world(seed)
    temperatures = {"temperature": 0.1, "past_temperature": 0.05}
    got = distillation(*jnp.asarray(noise), mask, **temperatures)
    p, q, terms = unit(p[mask]), unit(q[mask]), []
    for i in range(len(p)):
        others = np.delete(np.arange(len(p)), i)
        now, then = (
            softmax(p[i] @ p[others].T / 0.1),
            softmax(q[i] @ q[others].T / 0.05),
        )
        terms.append(-(then * np.log(now)).sum())
    np.testing.assert_allclose(got, np.mean(terms), rtol=1e-4)


def test_distillation_has_its_closed_forms():
    temperatures = {"temperature": 0.1, "past_temperature": 0.01}
    equal, all_real = jnp.ones((N, F)), np.ones(N, bool)
    loss = distillation(equal, equal, all_real, **temperatures)
    np.testing.assert_allclose(loss, np.log(N - 1), rtol=1e-5)
    for few in (0, 1, 2):  # a single other one is certain
        real = np.arange(N) < few
        value, grads = jax.value_and_grad(
            lambda x, real=real: distillation(x, equal, real, **temperatures)
        )(equal)
        assert value == 0 and np.isfinite(grads).all()


def test_anchors_are_the_streams_rows_or_the_first_ones():
    def batch(mask):
        return Batch(jnp.zeros((2, 7, 1)), jnp.asarray(mask, bool), {}, replayed=4)

    filled = batch([1, 1, 1, 0, 1, 1, 0])  # two of three stream rows are real
    assert stream_rows(filled).tolist() == [False] * 4 + [True] * 3
    assert first_rows(filled).tolist() == [True] * 2 + [False] * 5
    first = batch([0, 0, 0, 0, 1, 1, 1])  # nothing is replayed yet
    assert first_rows(first).tolist() == [False] * 4 + [True] * 3


@cache
def run(fidelity, batches=8):
    """A learner trained on some batches: all states and metrics, passes = 1."""
    learning = tiny_learning(
        strategy__name="scale",
        fidelity=fidelity,
        passes=1,
        optimizer__weight_decay=0.0,
        optimizer__momentum=0.0,
    )
    arrivals = list(stream(batches, short=False))
    states = [jax.jit(learning.init)(jax.random.key(0), arrivals[0])]
    step, seen = jax.jit(learning.step), []
    for arrival in arrivals:
        state, metrics = step(states[-1], arrival)
        states.append(state)
        seen.append(jax.device_get(metrics))
    return learning, arrivals, states, seen


def learner_of(learning, state):
    return Learner(
        state.params["method"], state.model, learning.method, learning.prepare
    )


BOTH = pytest.mark.parametrize("fidelity", ["paper", "reference"])


@BOTH
def test_the_objective_is_its_own(fidelity):
    _, _, states, seen = run(fidelity)
    # Replay starts with the second batch, with as many rows as the memory has.
    assert [int(m["rows"]) for m in seen] == [4, 8] + [BATCH + REPLAY] * 6
    for m in seen:
        assert m["loss_ssl"] == 0
        both = m["loss_contrast"] + m["loss_distill"]
        np.testing.assert_allclose(m["loss"], both, rtol=1e-6)
    moved = {
        part: [
            not np.array_equal(a, b)
            for a, b in zip(
                *(bits(s.params["method"][part]) for s in (states[0], states[-1])),
                strict=True,
            )
        ]
        for part in ("encoder", "projector")
    }
    assert all(moved["encoder"]) and not any(moved["projector"])


@BOTH
def test_the_weight_of_distillation_is_set_once_by_the_first_pass(fidelity):
    _, _, states, seen = run(fidelity)
    share = seen[0]["loss_distill"] / seen[0]["loss_contrast"]
    np.testing.assert_allclose(share, 0.15, rtol=1e-5)
    weights = {float(m["distill_weight"]) for m in seen}
    assert len(weights) == 1 and weights.pop() > 0
    assert states[0].strategy[1].weight == 0
    later = [m["loss_distill"] / m["loss_contrast"] for m in seen[1:]]
    assert not np.allclose(later, 0.15, rtol=1e-2)


def test_the_past_is_the_encoder_before_the_stream_batch():
    learning, arrivals, states, _ = run("paper")
    for state in states:
        params, stats = state.strategy[1].past
        same = zip(
            bits((params, stats)),
            bits((state.params["method"]["encoder"], state.model["encoder"])),
            strict=True,
        )
        assert all(np.array_equal(a, b) for a, b in same)
    # Within a stream batch it stays: the learner moves on, its features do not count.
    old, new = states[3], learner_of(learning, states[4])
    x = learning.prepare(arrivals[0].image)
    before = past_features(old.strategy[1], learner_of(learning, old), x)
    np.testing.assert_array_equal(past_features(old.strategy[1], new, x), before)
    assert not np.allclose(past_features(states[4].strategy[1], new, x), before)
    _, _, states, _ = run("reference")
    assert states[4].strategy[1].past == ()


@BOTH
def test_targets_are_constants_unless_the_head_learns_from_both_sides(fidelity):
    learning, arrivals, states, _ = run(fidelity)
    state, noise = states[4], lambda key, x: jax.random.normal(key, (2, *x.shape))
    learner = learner_of(learning, state)

    @jax.jit
    def gradients(params):
        batch = learning.strategy.draw(
            jax.random.key(1), state.strategy, learner, arrivals[4], noise
        )
        out = learning.method.loss(learner.params, learner.model, batch, None)
        then = past_features(state.strategy[1], learner, batch.views[0])

        def h(params, e):
            x = jax.nn.relu(
                e @ params["linear1"]["kernel"] + params["linear1"]["bias"][None]
            )
            return x @ params["linear2"]["kernel"] + params["linear2"]["bias"][None]

        def whole(params):
            terms = learning.strategy.loss(
                ((), params), state.strategy, learner, batch, out
            )
            return terms["distill"].value

        def by_hand(params, target_params):
            return distillation(
                h(params, out.e[0]),
                h(target_params, then),
                batch.mask,
                temperature=0.1,
                past_temperature=0.01,
            )

        return jax.grad(whole)(params), *jax.grad(by_hand, (0, 1))(params, params)

    got, student, target = gradients(state.params["strategy"][1])
    want = student
    if fidelity == "reference":
        want = jax.tree.map(jnp.add, student, target)
    for a, b in zip(bits(got), bits(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    assert max(np.abs(g).max() for g in bits(target)) > 1e-3


def test_the_memory_judges_by_features_after_the_passes():
    learning, _, states, seen = run("paper")
    assert [int(m["memory_images"]) for m in seen] == [4, 8, 12, 16, 20, 24, 24, 24]
    kept = states[-1].strategy[0]
    newest = np.flatnonzero(np.asarray(kept.items["id"]) >= 7 * BATCH)
    assert len(newest)
    fresh = learner_of(learning, states[-1]).encode(kept.items["image"][newest]).e
    np.testing.assert_allclose(kept.feature[newest], fresh, rtol=1e-4, atol=1e-5)
