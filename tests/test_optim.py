"""Schedules against golden values, optimizers against the recurrences written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ocssl_jax.optim import OPTIMIZERS, constant, local_cycle, make_optimizer

# torch.optim.lr_scheduler.OneCycleLR(max_lr=1, total_steps=10, pct_start=.5,
# div_factor=10, base_momentum=.85, max_momentum=.95), printed by torch 2.13.
RATES_10 = [0.1, 0.2318, 0.55, 0.8682, 1.0, 0.90451, 0.65451, 0.3455, 0.0955, 1e-5]
MOMENTA_10 = [
    *(0.95, 0.93536, 0.9, 0.86464, 0.85),
    *(0.85955, 0.88455, 0.91545, 0.94045, 0.95),
]

ETA = 0.03  # LARS: some layers' own rate is below the schedule's, some above


def cycle(passes, rise=0.5):
    return local_cycle(passes, peak=1.0, rise=rise, divisor=10.0, momentum=0.0)


def test_local_cycle_of_ten_passes():
    np.testing.assert_allclose(cycle(10).learning_rate, RATES_10, atol=1e-5)
    np.testing.assert_allclose(cycle(10).momentum, MOMENTA_10, atol=1e-5)


def test_local_cycle_of_twenty_and_fifty_passes():
    rates = cycle(20).learning_rate
    np.testing.assert_allclose(
        rates[[0, 5, 9, 10, 15, 19]],
        [0.1, 0.62814, 1.0, 0.97553, 0.3455, 1e-5],
        atol=1e-5,
    )
    rates = cycle(50, 0.25)
    np.testing.assert_allclose(
        rates.learning_rate[[11, 12, 13, 49]],
        [0.995809, 0.999561, 0.996057, 1e-5],
        atol=1e-5,
    )
    assert rates.momentum[12] == pytest.approx(0.850044, abs=1e-6)


@pytest.mark.parametrize(
    ("passes", "rise", "mean"), [(10, 0.5, 0.475), (20, 0.5, 0.5), (50, 0.25, 0.5025)]
)
def test_local_cycle_has_the_mean_of_the_formula(passes, rise, mean):
    assert cycle(passes, rise).learning_rate.mean() == pytest.approx(mean, abs=6e-4)


@pytest.mark.parametrize("passes", [1, 2])
def test_local_cycle_refuses_what_torch_divides_by_zero_on(passes):
    with pytest.raises(ValueError, match="rise \\* passes"):
        cycle(passes)


def lars_step(w, v, g, *, rate, mu, decay, eta):
    """One array's step of the LARS wrapper around torch's Nesterov SGD, in float64."""
    sizes = np.sqrt((w**2).sum()), np.sqrt((g**2).sum())
    if w.ndim != 1 and all(sizes):
        q = eta * sizes[0] / (sizes[1] + decay * sizes[0] + 1e-8)
        g = min(q / rate, 1.0) * (g + decay * w)
    v = mu * v + g
    return w - rate * (g + mu * v), v


def step_by_hand(name, w, grads, *, rates, momenta, decay):
    """torch's SGD and Adam and the LARS wrapper, in float64."""
    v = m = s = np.zeros_like(w)
    for t, (g, rate, mu) in enumerate(zip(grads, rates, momenta, strict=True), 1):
        if name == "lars":
            w, v = lars_step(w, v, g, rate=rate, mu=mu, decay=decay, eta=ETA)
            continue
        g = g + decay * w
        if name == "sgd":
            v = mu * v + g
            w = w - rate * v
        else:
            m, s = mu * m + (1 - mu) * g, 0.999 * s + 0.001 * g * g
            unbiased = np.sqrt(s / (1 - 0.999**t)) + 1e-8
            w = w - rate * m / (1 - mu**t) / unbiased
    return w


def run(optimizer, params, grads, passes):
    """Parameters after one update for each of `grads`."""
    params, grads = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (params, grads))
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for t in range(len(next(iter(grads.values())))):
        now = {name: g[t] for name, g in grads.items()}
        params, state = update(now, state, params, jnp.int32(t % passes))
    return params


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_follows_the_recurrence_over_stream_batches(name):
    rng = np.random.default_rng(0)
    passes, batches, decay = 4, 3, 0.01
    if name == "adam":
        schedule = constant(passes, peak=0.3, momentum=0.9)
    else:
        schedule = local_cycle(passes, peak=0.3, rise=0.5, divisor=10.0, momentum=0.0)
    settings = {"trust_coefficient": ETA} if name == "lars" else {}
    optimizer = make_optimizer(name, schedule=schedule, weight_decay=decay, **settings)
    params = {"bias": rng.normal(size=5), "kernel": rng.normal(size=(3, 5))}
    grads = {
        k: rng.normal(size=(batches * passes, *w.shape)) for k, w in params.items()
    }
    got = run(optimizer, params, grads, passes)
    for k, w in params.items():
        expected = step_by_hand(
            name,
            w,
            grads[k],
            rates=np.tile(schedule.learning_rate, batches),
            momenta=np.tile(schedule.momentum, batches),
            decay=decay,
        )
        np.testing.assert_allclose(got[k], expected, rtol=5e-5, atol=1e-6)


# LARS


def lars_of(rate, decay=0.1):
    schedule = constant(1, peak=rate, momentum=0.9)
    return make_optimizer(
        "lars", schedule=schedule, weight_decay=decay, trust_coefficient=ETA
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
