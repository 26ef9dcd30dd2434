"""Objectives against closed forms and the float64 oracle, with masks and few rows."""

from functools import partial

import jax
import numpy as np
import pytest
import ssl_oracle as oracle

from ocssl_jax import losses

WEIGHTS = {"invariance": 25.0, "variance": 25.0, "covariance": 1.0}
TWINS = {"off_diagonal": 0.005, "scale": 0.1}
# name -> (the library's, the oracle's): (z1 [n d], z2 [n d], mask) -> [n]
ROWS = {
    "negative_cosine": (losses.negative_cosine, lambda p, t: -oracle.cosines(p, t)),
    "normalized_square": (
        losses.normalized_square,
        lambda p, t: ((oracle.unit(p) - oracle.unit(t)) ** 2).sum(axis=1),
    ),
    "mean_square": (losses.mean_square, lambda p, t: ((p - t) ** 2).mean(axis=1)),
    "barlow_twins": (
        partial(losses.barlow_twins, **TWINS),
        partial(oracle.barlow_twins, **TWINS),
    ),
    "vicreg": (partial(losses.vicreg, **WEIGHTS), partial(oracle.vicreg, **WEIGHTS)),
}
MASK = np.array([True, False, True, True, True, False, True, True])
every_objective = pytest.mark.parametrize("name", ROWS)


def pair(seed=0, n=8, d=5):
    """Two views of n rows whose dimensions differ in spread, on both sides of 1."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(2, n, d)) * np.linspace(0.3, 1.8, d) + rng.normal(size=d)
    return z.astype(np.float32)


def mean(function, mask):
    return lambda z: losses.masked_mean(function(z[0], z[1], mask), mask)


def slope(function, z, h=1e-6):
    """Central differences of a scalar function, in float64."""
    z, out = np.array(z, np.float64), np.zeros(np.shape(z))
    for at in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[at] = h
        out[at] = (function(z + step) - function(z - step)) / (2 * h)
    return out


@every_objective
def test_real_rows_equal_the_oracle_whatever_masked_rows_hold(name):
    ours, theirs = ROWS[name]
    z = pair()
    want = theirs(*z[:, MASK].astype(np.float64))
    z[:, ~MASK] = [[np.nan], [np.inf]]
    rows = np.asarray(jax.jit(ours)(z[0], z[1], MASK))
    np.testing.assert_allclose(rows[MASK], want, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(rows[~MASK], 0)


@every_objective
def test_gradient_equals_finite_differences_of_the_oracle(name):
    ours, theirs = ROWS[name]
    z = pair(1)
    want = slope(lambda z: theirs(*z).mean(), z[:, MASK])
    z[:, ~MASK] = np.nan
    got = np.asarray(jax.jit(jax.grad(mean(ours, MASK)))(z))
    np.testing.assert_allclose(got[:, MASK], want, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(got[:, ~MASK], 0)


@every_objective
def test_permuted_rows_give_permuted_losses(name):
    z, order = pair(2), np.random.default_rng(0).permutation(8)
    rows = ROWS[name][0](z[0], z[1], MASK)
    moved = ROWS[name][0](z[0, order], z[1, order], MASK[order])
    np.testing.assert_allclose(moved, rows[order], rtol=1e-5, atol=1e-6)


@every_objective
@pytest.mark.parametrize("rows", [0, 1, 8])
@pytest.mark.parametrize("zero", [True, False])
def test_no_row_one_row_and_zero_vectors_stay_finite(name, rows, zero):
    z = np.zeros((2, 8, 5), np.float32) if zero else pair(3)
    mask = np.arange(8) < rows
    value, gradient = jax.jit(jax.value_and_grad(mean(ROWS[name][0], mask)))(z)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    if rows == 0:
        assert float(value) == 0
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("name", ["barlow_twins", "vicreg"])
def test_one_row_has_no_statistics_and_no_gradient_of_any(name):
    mask, z = np.arange(8) < 1, pair(4)
    z[1] = z[0]  # VICReg's invariance, which one row does have, is 0
    value, gradient = jax.value_and_grad(mean(ROWS[name][0], mask))(z)
    np.testing.assert_array_equal(gradient, 0)
    # Nothing correlates with itself: scale · d. No deviation: both hinges at 0.99.
    want = {"barlow_twins": 0.1 * 5, "vicreg": 2 * 25 * 0.99}[name]
    assert float(value) == pytest.approx(want, rel=1e-5)


# Closed forms


def every(n):
    return np.ones(n, bool)


def test_a_prediction_of_its_target_is_perfect_and_the_opposite_is_worst():
    z = pair()[0]
    for function, best, worst in [
        (losses.negative_cosine, -1, 1),
        (losses.normalized_square, 0, 4),
    ]:
        np.testing.assert_allclose(function(z, 3 * z, every(8)), best, atol=1e-5)
        np.testing.assert_allclose(function(z, -z, every(8)), worst, atol=1e-5)
    np.testing.assert_array_equal(losses.mean_square(z, z, every(8)), 0)


# Three columns of a Hadamard matrix: mean 0, variance 1, orthogonal.
INDEPENDENT = np.array([[1, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]], np.float32)


@pytest.mark.parametrize(
    ("z1", "z2", "want"),
    [
        (INDEPENDENT, 2 * INDEPENDENT + 1, 0),  # scale and shift do not matter
        (INDEPENDENT, -INDEPENDENT, 0.1 * 3 * 4),  # (-1 - 1)^2 on the diagonal
        (INDEPENDENT[:, [0, 0, 0]], INDEPENDENT[:, [0, 0, 0]], 0.1 * 0.005 * 6),
        (INDEPENDENT, INDEPENDENT[:, [1, 2, 0]], 0.1 * (3 + 0.005 * 3)),
    ],
)
def test_barlow_twins_of_known_correlations(z1, z2, want):
    got = losses.barlow_twins(z1, z2, every(4), **TWINS)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-8)


def test_vicreg_by_hand():
    f = partial(losses.vicreg, **WEIGHTS)
    # Unbiased variance 4/3, above the hinge; no covariance; views apart by 0.2.
    got = f(INDEPENDENT, INDEPENDENT + np.float32(0.2), every(4))
    np.testing.assert_allclose(got, 25 * 0.04, rtol=1e-4)
    # Variance 2 and covariance 2 in one view: 2 · 2² / 2 dimensions; none in the other.
    z = np.array([[1, 1], [-1, -1]], np.float32)
    got = f(z, np.zeros_like(z), every(2))
    np.testing.assert_allclose(got, 25 * 1 + 25 * (1 - 0.01) + 4, rtol=1e-5)
    # Only the row whose views differ pays for it.
    other = INDEPENDENT.copy()
    other[2] += 0.3
    own = f(INDEPENDENT, other, every(4)) - 25 * np.array([0, 0, 0.09, 0])
    np.testing.assert_allclose(own, own[0], rtol=1e-5)


# Targets


@pytest.mark.parametrize("name", ["negative_cosine", "normalized_square"])
def test_swapped_views_predict_each_other_and_no_gradient_enters_a_target(name):
    distance, theirs = ROWS[name]
    p, t = pair(5), pair(6)
    got = losses.swapped(distance, p, t, every(8))
    want = theirs(p[0], t[1]) + theirs(p[1], t[0])
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    to_p, to_t = jax.grad(
        lambda p, t: losses.swapped(distance, p, t, every(8)).sum(), argnums=(0, 1)
    )(p, t)
    assert np.all(np.abs(to_p).max(axis=-1) > 0)
    np.testing.assert_array_equal(to_t, 0)
