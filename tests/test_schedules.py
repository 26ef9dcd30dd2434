"""Schedules against what torch gives, the spec's numbers and closed forms."""

from pathlib import Path

import jax
import numpy as np
import pytest
from marks import slow_but
from tiny import method_of, stream, tiny_learning

from ocssl_jax.schedules import constant, local_cycle, warmup_cosine
from ocssl_jax.strategies import STRATEGIES

# torch.optim.lr_scheduler.OneCycleLR(max_lr=1, total_steps=10, pct_start=.5,
# div_factor=10, base_momentum=.85, max_momentum=.95), printed by torch 2.13.
RATES_10 = [0.1, 0.2318, 0.55, 0.8682, 1.0, 0.90451, 0.65451, 0.3455, 0.0955, 1e-5]
MOMENTA_10 = [
    *(0.95, 0.93536, 0.9, 0.86464, 0.85),
    *(0.85955, 0.88455, 0.91545, 0.94045, 0.95),
]
RISES = {"half": (0.5, 3), "quarter": (0.25, 5)}  # and the shortest possible cycle
TORCH = np.load(Path(__file__).parent / "golden" / "one_cycle.npz")  # golden/*.py


def cycle(passes, rise=0.5):
    return local_cycle(passes, peak=1.0, rise=rise, divisor=10.0)


def test_local_cycle_of_ten_passes():
    np.testing.assert_allclose(cycle(10).learning_rate, RATES_10, atol=1e-5)
    np.testing.assert_allclose(cycle(10).momentum, MOMENTA_10, atol=1e-5)


@pytest.mark.parametrize("name", RISES)
def test_local_cycle_is_torchs_at_every_step(name):
    rise, least = RISES[name]
    for passes in range(least, 101):
        rates, momenta = TORCH[name][:, passes - 2, :passes]
        np.testing.assert_allclose(cycle(passes, rise).learning_rate, rates, rtol=1e-6)
        np.testing.assert_allclose(cycle(passes, rise).momentum, momenta, rtol=1e-6)


@pytest.mark.parametrize("name", RISES)
def test_local_cycle_says_how_many_passes_it_needs(name):
    """There torch divides by 0 or starts beyond the peak."""
    rise, least = RISES[name]
    for passes in range(1, least):
        with pytest.raises(ValueError, match=f"at least {least} passes"):
            cycle(passes, rise)
    assert cycle(least, rise).each_batch


@pytest.mark.parametrize("rise", [-0.5, 0.0, 1.0])
def test_local_cycle_refuses_a_rise_without_a_fall(rise):
    with pytest.raises(ValueError, match=r"1 < rise \* passes < passes"):
        cycle(10, rise)


def test_two_passes_are_the_first_and_the_last_rate():
    """Possible where the peak lies between them."""
    np.testing.assert_allclose(cycle(2, 0.75).learning_rate, [0.1, 1e-5])


def test_the_peak_of_fifty_passes_lies_between_two():
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


def test_constant_is():
    rates, momenta, each_batch = constant(3, peak=0.5, momentum=0.9)
    assert rates.tolist() == [0.5] * 3 and each_batch
    np.testing.assert_allclose(momenta, 0.9)


def test_warmup_cosine_rises_straight_and_falls_to_zero():
    rates, momenta, each_batch = warmup_cosine(
        2, peak=0.3, momentum=0.9, period=10, warmup=4
    )
    assert len(rates) == len(momenta) == 20 and not each_batch
    np.testing.assert_allclose(rates[:8], np.linspace(0.003, 0.3, 8), rtol=1e-6)
    assert rates[13] == pytest.approx(0.15)  # halfway down
    assert rates[19] == pytest.approx(0.0, abs=1e-8)
    assert (np.diff(rates[7:]) < 0).all()


def test_warmup_cosine_without_a_rise_starts_at_the_top():
    rates = warmup_cosine(1, peak=1.0, momentum=0.9, period=2, warmup=0).learning_rate
    np.testing.assert_allclose(rates, [0.5, 0.0], atol=1e-8)


@pytest.mark.parametrize(("period", "warmup"), [(0, 0), (5, 5), (5, -1)])
def test_warmup_cosine_refuses_a_period_without_a_fall(period, warmup):
    with pytest.raises(ValueError, match="0 <= warmup < period"):
        warmup_cosine(3, peak=1.0, momentum=0.9, period=period, warmup=warmup)


@pytest.mark.parametrize("strategy", slow_but(["none", "climb"], STRATEGIES))
def test_every_strategy_learns_along_a_cycle(strategy):
    """Traced, not compiled: schedules know nothing of strategies."""
    made = tiny_learning(
        strategy__name=strategy,
        method__name=method_of(strategy),
        optimizer__schedule="local_cycle",
        passes=3,
    )
    batch = next(stream(1, labelled=made.method.head is not None))
    state = jax.eval_shape(made.init, jax.random.key(0), batch)
    after, metrics = jax.eval_shape(made.step, state, batch)
    assert jax.tree.leaves(after) == jax.tree.leaves(state)
    assert metrics["learning_rate"].shape == ()
