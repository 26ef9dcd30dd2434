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


def step_by_hand(name, w, grads, *, rates, momenta, decay):
    """torch's SGD and Adam, in float64."""
    v = m = s = np.zeros_like(w)
    for t, (g, rate, mu) in enumerate(zip(grads, rates, momenta, strict=True), 1):
        g = g + decay * w
        if name == "sgd":
            v = mu * v + g
            w = w - rate * v
        else:
            m, s = mu * m + (1 - mu) * g, 0.999 * s + 0.001 * g * g
            unbiased = np.sqrt(s / (1 - 0.999**t)) + 1e-8
            w = w - rate * m / (1 - mu**t) / unbiased
    return w


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_follows_the_recurrence_over_stream_batches(name):
    rng = np.random.default_rng(0)
    w, passes, batches = rng.normal(size=5), 4, 3
    grads = rng.normal(size=(batches * passes, 5))
    if name == "sgd":
        schedule = local_cycle(passes, peak=0.3, rise=0.5, divisor=10.0, momentum=0.0)
    else:
        schedule = constant(passes, peak=0.3, momentum=0.9)
    optimizer = make_optimizer(name, schedule=schedule, weight_decay=0.01)
    params = {"w": jnp.asarray(w, jnp.float32)}
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for t, g in enumerate(grads):
        grad = {"w": jnp.asarray(g, jnp.float32)}
        params, state = update(grad, state, params, jnp.int32(t % passes))
    expected = step_by_hand(
        name,
        w,
        grads,
        rates=np.tile(schedule.learning_rate, batches),
        momenta=np.tile(schedule.momentum, batches),
        decay=0.01,
    )
    np.testing.assert_allclose(params["w"], expected, rtol=2e-5)
