"""The global contrast: gradients and averages against the formulas, and its safety."""

from functools import partial

import contrast_oracle as oracle
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ocssl_jax.clip.contrast import (
    Estimators,
    Objective,
    Rows,
    check,
    contrast,
    estimators,
    moved,
)
from ocssl_jax.losses import unit

LABEL = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3])
LINEAR = Objective(0.07, "linear", 0.0, "class")
step = jax.jit(contrast, static_argnames="objective")

HINGE = Objective(0.07, "squared_hinge", 0.3, "class")


def margin_of(objective):
    return None if objective.surrogate == "linear" else objective.margin


def rows_of(label, ids=None, mask=None, importance=None):
    n = len(label)
    return Rows(
        jnp.arange(n) if ids is None else jnp.asarray(ids),
        jnp.asarray(label),
        jnp.ones(n, bool) if mask is None else jnp.asarray(mask),
        jnp.ones(n) if importance is None else jnp.asarray(importance),
    )


def features(n=10, d=5, seed=0):
    """Of n images, and of the text of each class."""
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(n, d))), jnp.asarray(rng.normal(size=(4, d)))


def cosines(weights, label):
    """The network of these tests: its weights are the features before scaling."""
    x, t = weights
    return unit(x) @ unit(t)[label].T


def wide(n):
    never = jnp.full(n, -jnp.inf, jnp.float64)
    return Estimators(never, never)


@pytest.mark.parametrize("negatives", ["class", "instance"])
@pytest.mark.parametrize("objective", [LINEAR, HINGE])
def test_full_batch_at_rate_1_has_the_full_gradient(objective, negatives):
    """In float64; the value that is logged is the objective."""
    objective = objective._replace(negatives=negatives)
    with jax.enable_x64(True):
        weights = features()

        def ours(weights):
            s = cosines(weights, LABEL)
            rows = rows_of(LABEL)
            found, _ = contrast(
                wide(len(LABEL)), s, rows, rate=1.0, objective=objective
            )
            return jnp.mean(found.surrogate), jnp.mean(found.value)

        full = lambda w: oracle.gcl(
            cosines(w, LABEL),
            LABEL,
            objective.temperature,
            margin_of(objective),
            negatives,
        )
        grads, value = jax.jit(jax.grad(ours, has_aux=True))(weights)
        expected = jax.jit(jax.grad(full))(weights)
        for found, wanted in zip(grads, expected, strict=True):
            assert np.abs(found - wanted).max() < 1e-10 * np.abs(wanted).max()
        np.testing.assert_allclose(value, full(weights), rtol=1e-12)


@pytest.mark.parametrize("objective", [LINEAR, HINGE])
def test_averages_step_by_step(objective):
    """Batches with repeated visits, the first of one class alone, beside NumPy."""
    objective = objective._replace(temperature=0.5)
    s = np.asarray(cosines(features(), LABEL), np.float64)
    state = estimators(len(LABEL))
    u, seen = np.zeros((2, len(LABEL))), np.zeros((2, len(LABEL)), bool)
    rng = np.random.default_rng(1)
    batches = [np.array([5, 6, 7, 8])] + [rng.permutation(10)[:4] for _ in range(8)]
    for ids in batches:
        block = s[np.ix_(ids, ids)]
        rows = rows_of(LABEL[ids], ids)
        _, state = step(
            state, jnp.asarray(block, jnp.float32), rows, rate=0.3, objective=objective
        )
        oracle.averaged(u, seen, block, LABEL[ids], ids, 0.5, 0.3, margin_of(objective))
        tables = state.image, state.text
        for table, expected, known in zip(tables, u, seen, strict=True):
            np.testing.assert_allclose(np.exp(table)[known], expected[known], rtol=2e-5)
            assert np.isneginf(table)[~known].all()
        if ids is batches[0]:
            assert not seen.any()
    assert seen.all()


def test_the_averages_may_be_donated():
    """As a state is; two leaves of one buffer may not."""
    rows = rows_of([0, 1, 2])
    move = lambda state: contrast(state, jnp.eye(3), rows, rate=0.5, objective=LINEAR)[
        1
    ]
    after = jax.jit(move, donate_argnums=0)(estimators(3))
    assert np.isfinite(after.image).all() and np.isfinite(after.text).all()


def test_average_in_closed_form():
    """u_n = g + (1 - rate)^n (u_0 - g)."""
    u, g, rate = 3.0, 0.2, 0.25
    log_u = jnp.log(jnp.array([u]))
    for n in range(1, 20):
        log_u = moved(log_u, jnp.log(jnp.array([g])), rate)
        expected = g + (1 - rate) ** n * (u - g)
        np.testing.assert_allclose(log_u, [np.log(expected)], atol=1e-6)
    never, new = jnp.array([-jnp.inf]), jnp.array([1.5])
    assert moved(never, new, 0.01) == 1.5  # a first visit
    assert moved(jnp.array([9.0]), new, 1.0) == 1.5
    assert moved(jnp.array([9.0]), never, 0.5) == 9.0  # no negatives
    assert np.isneginf(moved(never, never, 0.5))


@pytest.mark.parametrize("tau", [0.01, 0.5])
def test_two_rows_in_closed_form(tau):
    """Of one negative tau log exp(a / tau) = a."""
    for similarity, gcl, hinge in [
        (jnp.eye(2), -2.0, 0.0),
        (1 - jnp.eye(2), 2.0, 2 * 1.3**2),
        (jnp.ones((2, 2)), 0.0, 2 * 0.3**2),
    ]:
        for objective, expected in ((LINEAR, gcl), (HINGE, hinge)):
            objective = objective._replace(temperature=tau)
            found, _ = step(
                estimators(2),
                similarity,
                rows_of([0, 1]),
                rate=0.5,
                objective=objective,
            )
            np.testing.assert_allclose(found.value, [expected] * 2, atol=1e-5)


def test_identities_of_the_image_side():
    """Class counts give g_I, and a number of the class gives g_T."""
    with jax.enable_x64(True):
        x, t = features()
        s = np.asarray(unit(x) @ unit(t).T)  # [n k]
        counts = np.bincount(LABEL)
        _, state = step(
            wide(len(LABEL)),
            jnp.asarray(s[:, LABEL]),
            rows_of(LABEL),
            rate=1.0,
            objective=LINEAR,
        )
        tau = LINEAR.temperature
        for i, y in enumerate(LABEL):
            other = np.arange(4) != y
            terms = counts * np.exp((s[i] - s[i, y]) / tau)
            exact = terms[other].sum() / counts[other].sum()
            np.testing.assert_allclose(state.image[i], np.log(exact), rtol=1e-12)
            # The text side is a number of the class less the row's own cosine.
            images = np.exp(s[y != LABEL, y] / tau).mean()
            expected = np.log(images) - s[i, y] / tau
            np.testing.assert_allclose(state.text[i], expected, rtol=1e-12)


@pytest.mark.parametrize("objective", [LINEAR, HINGE])
def test_order_padding_and_unseen_images_change_nothing(objective):
    """Nor do images of the run that are not in the batch."""
    run = partial(step, rate=0.4, objective=objective)
    x, t = features()
    s = cosines((x, t), LABEL).astype(jnp.float32)
    n = len(LABEL)
    state = estimators(n + 5)
    _, state = run(state, s, rows_of(LABEL))
    found, after = run(state, 0.9 * s, rows_of(LABEL))
    order = np.random.default_rng(0).permutation(n)
    shuffled, again = run(state, 0.9 * s[order][:, order], rows_of(LABEL[order], order))
    np.testing.assert_allclose(shuffled.surrogate, found.surrogate[order], atol=1e-5)
    padded = jnp.full((n + 2, n + 2), 0.7).at[:n, :n].set(0.9 * s)
    label = np.concatenate([LABEL, [3, 7]])
    ids = np.concatenate([np.arange(n), [0, n + 1]])  # one is that of a real row
    more, third = run(state, padded, rows_of(label, ids, np.arange(n + 2) < n))
    np.testing.assert_allclose(more.surrogate[:n], found.surrogate, atol=1e-6)
    assert not more.surrogate[n:].any() and not more.counts[n:].any()
    for other in (again, third):
        np.testing.assert_allclose(other.image[:n], after.image[:n], atol=1e-5)
        np.testing.assert_allclose(other.text[:n], after.text[:n], atol=1e-5)
        assert np.isneginf(other.image[n:]).all()


def test_classes_of_one_text_are_no_negatives():
    rows = rows_of([4, 4, 4])  # of any labels
    s = jnp.array([[0.1, 0.9, 0.3], [0.2, 0.5, 0.4], [0.3, 0.3, 0.3]])
    surrogate = lambda s: jnp.sum(
        step(estimators(3), s, rows, rate=0.5, objective=HINGE)[0].surrogate
    )
    value, grads = jax.value_and_grad(surrogate)(s)
    assert value == 0 and not grads.any()  # finite as well


def test_importance_restores_the_pool():
    """A batch of one row a class, weighted by the counts, has the pool's g_I."""
    x, t = features()
    s = np.asarray(unit(x) @ unit(t).T, np.float32)
    counts = np.bincount(LABEL)
    one = np.array([0, 3, 5, 9])
    full = step(
        estimators(10),
        jnp.asarray(s[:, LABEL]),
        rows_of(LABEL),
        rate=1.0,
        objective=LINEAR,
    )[1]
    rows = rows_of(np.arange(4), one, importance=counts.astype(np.float32))
    part = step(estimators(10), jnp.asarray(s[one]), rows, rate=1.0, objective=LINEAR)[
        1
    ]
    np.testing.assert_allclose(part.image[one], full.image[one], atol=1e-5)


@pytest.mark.parametrize("objective", [LINEAR, HINGE])
@pytest.mark.parametrize("tau", [0.005, 0.01])
def test_no_overflow_at_low_temperatures(objective, tau):
    """The worst cosines, -1 of the pair and 1 of all negatives."""
    objective = objective._replace(temperature=tau, margin=0.5)
    n = len(LABEL)
    worst = jnp.where(jnp.eye(n, dtype=bool), -1.0, 1.0)
    surrogate = lambda s, state: jnp.sum(
        step(state, s, rows_of(LABEL), rate=0.9, objective=objective)[0].surrogate
    )
    slope, state = jax.jit(jax.grad(surrogate)), estimators(n)
    for s in (-worst, worst, -worst):  # u is far too small, then far too large
        found, after = step(state, s, rows_of(LABEL), rate=0.9, objective=objective)
        grads = slope(s, state)
        assert np.isfinite(grads).all() and np.isfinite(found.value).all()
        assert np.isfinite(after.image).all() and np.isfinite(after.text).all()
        state = after
    stale = Estimators(jnp.full(n, -1e4), jnp.full(n, -1e4))
    found, _ = step(stale, worst, rows_of(LABEL), rate=1e-30, objective=objective)
    assert np.isfinite(found.surrogate).all()


def test_cut_weights_are_counted():
    """rate 0.1: log u rises to log(0.1) + 200 at once, but for one pair in two."""
    stale = Estimators(jnp.full(2, -1e3), jnp.full(2, -1e3))
    objective = LINEAR._replace(temperature=0.01)
    swapped = 1 - jnp.eye(2)
    found, _ = step(stale, swapped, rows_of([0, 1]), rate=1e-10, objective=objective)
    # h / tau = 100 and log u = 100 - 23.03: every exponent is 23.03 > 20.
    assert found.clipped == 1.0
    np.testing.assert_allclose(found.drift, -np.log(1e-10), rtol=1e-4)
    np.testing.assert_allclose(found.surrogate, 2 * np.exp(20.0), rtol=1e-4)
    found, _ = step(stale, swapped, rows_of([0, 1]), rate=1e-8, objective=objective)
    assert found.clipped == 0.0  # 18.4


def test_tracking_improves_with_a_slower_rate():
    """At fixed weights a slow average is nearer to g than a fast one."""
    x, t = features(24, seed=3)
    label = np.arange(24) % 4
    s = np.asarray(cosines((x, t), label), np.float32)
    objective = LINEAR._replace(temperature=0.3)
    run = partial(step, objective=objective)
    full = run(estimators(24), jnp.asarray(s), rows_of(label), rate=1.0)[1]
    errors = []
    for rate in (0.9, 0.5, 0.1, 0.02):
        rng, state = np.random.default_rng(0), estimators(24)
        for _ in range(300):
            ids = rng.permutation(24)[:8]
            block = jnp.asarray(s[np.ix_(ids, ids)])
            _, state = run(state, block, rows_of(label[ids], ids), rate=rate)
        off = np.abs(np.exp(np.asarray(state.text - full.text)) - 1)
        errors.append(off.mean())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.2 * errors[0]


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"margin": -0.1}, "margin must be at least 0"),
        ({"surrogate": "hinge"}, "surrogate must be one of linear, squared_hinge"),
        ({"negatives": "all"}, "negatives must be one of class, instance"),
    ],
)
def test_impossible_settings(fields, match):
    check(LINEAR)
    with pytest.raises(ValueError, match=match):
        check(LINEAR._replace(**fields))
