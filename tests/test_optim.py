"""Optimizers against the recurrences written out, over several runs of a schedule."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ocssl_jax.optim import OPTIMIZERS, make_optimizer
from ocssl_jax.schedules import constant, local_cycle, warmup_cosine

ETA = 0.03  # LARS: some layers' own rate is below the schedule's, some above


def lars_step(w, v, g, *, rate, mu, decay, eta):
    """One array's step of the LARS wrapper around torch's Nesterov SGD, in float64."""
    sizes = np.sqrt((w**2).sum()), np.sqrt((g**2).sum())
    if w.ndim != 1 and all(sizes):
        q = eta * sizes[0] / (sizes[1] + decay * sizes[0] + 1e-8)
        g = min(q / rate, 1.0) * (g + decay * w)
    v = mu * v + g
    return w - rate * (g + mu * v), v


def step_by_hand(name, w, grads, *, rates, momenta, decay, reset=0):
    """torch's SGD, Adam, AdamW, LARS wrapper, in float64; `reset`: every so many.

    AdamW with CLIP's numbers, and a vector does not decay.
    """
    t, v = 0, np.zeros_like(w)
    m = s = v
    for n, (g, rate, mu) in enumerate(zip(grads, rates, momenta, strict=True)):
        if reset and n % reset == 0:
            t, v, m, s = 0, 0 * v, 0 * m, 0 * s
        t += 1
        if name == "lars":
            w, v = lars_step(w, v, g, rate=rate, mu=mu, decay=decay, eta=ETA)
            continue
        apart = name == "adamw"
        g = g if apart else g + decay * w
        if name == "sgd":
            v = mu * v + g
            w = w - rate * v
        else:
            beta, eps = (0.98, 1e-6) if apart else (0.999, 1e-8)
            m, s = mu * m + (1 - mu) * g, beta * s + (1 - beta) * g * g
            unbiased = np.sqrt(s / (1 - beta**t)) + eps
            decayed = decay * w if apart and w.ndim > 1 else 0.0
            w = w - rate * (m / (1 - mu**t) / unbiased + decayed)
    return w


def run(optimizer, params, grads, passes):
    """Parameters after one update for each of `grads`."""
    params, grads = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (params, grads))
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for t in range(len(next(iter(grads.values())))):
        now = {name: g[t] for name, g in grads.items()}
        params, state = update(now, state, params, jnp.int32(t % passes))
    return params


def settings_of(name):
    return {"trust_coefficient": ETA} if name == "lars" else {}


def compared(name, schedule, passes, batches, *, reset):
    """What the optimizer gives and what the recurrence does, by parameter."""
    rng = np.random.default_rng(0)
    decay, period = 0.01, len(schedule.learning_rate)
    optimizer = make_optimizer(
        name,
        schedule=schedule,
        momentum_reset=reset,
        weight_decay=decay,
        **settings_of(name),
    )
    params = {"bias": rng.normal(size=5), "kernel": rng.normal(size=(3, 5))}
    updates = batches * passes
    grads = {k: rng.normal(size=(updates, *w.shape)) for k, w in params.items()}
    got = run(optimizer, params, grads, passes)
    expected = {
        k: step_by_hand(
            name,
            w,
            grads[k],
            rates=np.resize(schedule.learning_rate, updates),
            momenta=np.resize(schedule.momentum, updates),
            decay=decay,
            reset=period if reset else 0,
        )
        for k, w in params.items()
    }
    return got, expected


@pytest.mark.parametrize("reset", [False, True], ids=["carried", "reset"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_follows_the_recurrence_over_stream_batches(name, reset):
    passes = 4
    schedule = local_cycle(passes, peak=0.3, rise=0.5, divisor=10.0)
    if name in ("adam", "adamw"):
        schedule = constant(passes, peak=0.3, momentum=0.9)
    got, expected = compared(name, schedule, passes, 3, reset=reset)
    for k in got:
        np.testing.assert_allclose(got[k], expected[k], rtol=5e-5, atol=1e-6)


@pytest.mark.parametrize("reset", [False, True], ids=["carried", "reset"])
def test_a_longer_schedule_goes_on_over_stream_batches_and_starts_again(reset):
    schedule = warmup_cosine(2, peak=0.3, momentum=0.9, period=3, warmup=1)
    got, expected = compared("sgd", schedule, 2, 7, reset=reset)
    for k in got:
        np.testing.assert_allclose(got[k], expected[k], rtol=5e-5, atol=1e-6)


def test_the_learning_rate_that_is_told_is_that_of_the_next_update():
    schedule = warmup_cosine(1, peak=0.3, momentum=0.9, period=3, warmup=1)
    optimizer = make_optimizer(
        "sgd", schedule=schedule, momentum_reset=False, weight_decay=0.0
    )
    w = jnp.ones(1)
    state, seen = optimizer.init(w), []
    for _ in range(4):
        seen.append(float(optimizer.learning_rate(state, jnp.int32(0))))
        w, state = optimizer.update(w, state, w, jnp.int32(0))
    np.testing.assert_allclose(seen, np.resize(schedule.learning_rate, 4))


# LARS


def lars_of(rate, decay=0.1):
    schedule = constant(1, peak=rate, momentum=0.9)
    return make_optimizer(
        "lars",
        schedule=schedule,
        momentum_reset=False,
        weight_decay=decay,
        trust_coefficient=ETA,
    )


def test_a_first_lars_step_is_as_long_as_the_smaller_of_two_rates():
    """Without decay: 1.9 (Nesterov's first step) x min(eta |p|, rate |g|)."""
    p, g = np.full((2, 2), 3.0), np.full((2, 2), 0.5)  # |p| = 6, |g| = 1
    for rate, length in [(10.0, ETA * 6), (ETA * 0.6, ETA * 0.6)]:
        got = run(lars_of(rate, decay=0.0), {"w": p}, {"w": g[None]}, 1)
        step = np.linalg.norm(np.asarray(got["w"]) - p)
        assert step == pytest.approx(1.9 * length, rel=1e-4)


@pytest.mark.parametrize("shape", [(4,), (2, 2)])
def test_vectors_and_zeros_keep_their_gradient_and_do_not_decay(shape):
    rate, ones, zeros = 10.0, np.ones(shape), np.zeros(shape)
    vector = len(shape) == 1
    got = run(lars_of(rate), {"w": ones}, {"w": zeros[None]}, 1)
    np.testing.assert_array_equal(got["w"], ones)
    got = run(lars_of(rate), {"w": zeros}, {"w": ones[None]}, 1)
    np.testing.assert_allclose(got["w"], -1.9 * rate * ones, rtol=1e-6)
    got = run(lars_of(rate), {"w": ones}, {"w": ones[None]}, 1)
    assert np.allclose(got["w"], 1 - 1.9 * rate) == vector


def test_three_cycles_go_where_torchs_sgd_goes():
    golden = np.load(Path(__file__).parent / "golden" / "sgd_cycles.npz")
    x, y = jnp.asarray(golden["x"]), jnp.asarray(golden["y"])
    schedule = local_cycle(10, peak=0.1, rise=0.5, divisor=10.0)
    optimizer = make_optimizer(
        "sgd", schedule=schedule, momentum_reset=False, weight_decay=0.01
    )
    gradient = jax.grad(lambda w: jnp.mean((x @ w - y) ** 2))
    weight = jnp.asarray(golden["start"])
    state, path = optimizer.init(weight), []
    for n in range(30):
        weight, state = optimizer.update(gradient(weight), state, weight, n % 10)
        path.append(weight)
    np.testing.assert_allclose(path, golden["path"], rtol=1e-4, atol=1e-6)
    assert np.abs(golden["path"][-1] - golden["start"]).max() > 0.1
