"""GCL, group DRO, InfoNCE and cross entropy: gradients, closed forms, unbiasedness."""

import contrast_oracle as oracle
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_contrast import HINGE, LABEL, LINEAR, cosines, features, rows_of, step, wide

from ocssl_jax.clip.contrast import Contrast, estimators
from ocssl_jax.clip.objectives import (
    ClassLosses,
    class_losses,
    cross_entropy,
    global_contrastive,
    group_dro,
    info_nce,
    of_classes,
    robust,
)
from ocssl_jax.clip.sampler import class_balanced, uniform

COUNTS = np.bincount(LABEL)
FULL_SHARE = (1 / COUNTS)[LABEL]  # the whole pool as one batch
ACTIVE = np.ones(4, bool)


def test_group_dro_of_the_full_batch_has_the_full_gradient():
    """Averages of one visit at rate 1 are the numbers themselves; in float64."""
    with jax.enable_x64(True):
        weights, rows = features(), rows_of(LABEL)

        def ours(weights, strength):
            s = cosines(weights, LABEL)
            found, _ = step(wide(10), s, rows, rate=1.0, objective=HINGE)
            state = ClassLosses(jnp.zeros(4), jnp.zeros(4, bool))
            out, state = group_dro(
                state,
                found,
                jnp.asarray(FULL_SHARE),
                jnp.asarray(LABEL),
                jnp.asarray(ACTIVE),
                rate=1.0,
                strength=strength,
            )
            return out.loss, (out.value, state.value)

        def full(w, strength):
            s = cosines(w, LABEL)
            return oracle.gdro(s, LABEL, HINGE.temperature, HINGE.margin, strength)

        ours = jax.jit(jax.grad(ours, has_aux=True))
        full = jax.jit(jax.value_and_grad(full))
        for strength in (0.05, 1.0, 100.0):
            grads, (value, losses) = ours(weights, strength)
            expected, wanted = full(weights, strength)
            for found, gradient in zip(grads, wanted, strict=True):
                assert np.abs(found - gradient).max() < 1e-10 * np.abs(gradient).max()
            np.testing.assert_allclose(value, expected, rtol=1e-12)
        s = cosines(weights, LABEL)
        of_each = oracle.losses_of_classes(s, LABEL, HINGE.temperature, HINGE.margin)
        np.testing.assert_allclose(losses, of_each, rtol=1e-12)


def test_gcl_of_the_full_batch_is_the_mean_over_rows():
    s = cosines(features(), LABEL).astype(jnp.float32)
    found, _ = step(estimators(10), s, rows_of(LABEL), rate=1.0, objective=LINEAR)
    loss = global_contrastive(
        found, jnp.asarray(FULL_SHARE), jnp.asarray(LABEL), jnp.asarray(COUNTS)
    )
    np.testing.assert_allclose(loss, found.surrogate.mean(), rtol=1e-5)


@pytest.mark.parametrize("strength", [0.02, 0.3, 5.0])
def test_dual_identity(strength):
    """The value is that of its own p, and no other p is better."""
    with jax.enable_x64(True):
        losses = jnp.array([0.3, -0.2, 1.1, 9.0])
        active = jnp.array([True, True, True, False])
        value, p = robust(losses, active, strength)
        assert p[3] == 0 and np.isclose(p.sum(), 1)

        def primal(p):
            return p @ losses[:3] - strength * np.sum(p * np.log(3 * p))

        np.testing.assert_allclose(value, primal(p[:3]), rtol=1e-12)
        for other in np.random.default_rng(0).dirichlet(np.ones(3), size=200):
            assert primal(other) <= value + 1e-12


def test_robust_weights_in_closed_form():
    """A softmax of two, and the limits: the mean and the largest of the losses."""
    both = jnp.array([True, True])
    value, p = robust(jnp.array([1.0, 0.0]), both, 1.0)
    np.testing.assert_allclose(p, [0.7310586, 0.2689414], atol=1e-6)
    np.testing.assert_allclose(value, 0.6201145, atol=1e-6)
    losses, active = jnp.array([0.5, 2.0, 0.2]), jnp.ones(3, bool)
    value, p = robust(losses, active, 1e4)
    np.testing.assert_allclose(p, np.full(3, 1 / 3), atol=1e-4)
    np.testing.assert_allclose(value, losses.mean(), atol=5e-3)  # float32 at 1e4
    value, p = robust(losses, active, 1e-3)
    np.testing.assert_allclose(value, 2.0 - 1e-3 * np.log(3), atol=1e-6)
    np.testing.assert_array_equal(p, [0, 1, 0])


@pytest.mark.parametrize(("similar", "expected"), [("own", 0.0), ("other", 3.38)])
def test_group_dro_of_two_rows(similar, expected):
    """Of one negative each: the losses are the surrogates themselves."""
    s = jnp.eye(2) if similar == "own" else 1 - jnp.eye(2)
    found, _ = step(estimators(2), s, rows_of([0, 1]), rate=0.9, objective=HINGE)
    args = (found, jnp.ones(2), jnp.arange(2), jnp.ones(2, bool))
    out, _ = group_dro(class_losses(2), *args, rate=0.9, strength=0.1)
    np.testing.assert_allclose(out.value, expected, atol=1e-5)
    np.testing.assert_allclose(out.weight, [0.5, 0.5], atol=1e-5)


def as_contrast(value, counts=None):
    n = len(value)
    zero = jnp.zeros(())
    counts = jnp.ones(n, bool) if counts is None else jnp.asarray(counts)
    return Contrast(jnp.ones(n), jnp.asarray(value), counts, zero, zero)


def test_averages_of_classes_step_by_step():
    """First visits, absent classes, rows that do not count, classes not in the pool."""
    rng = np.random.default_rng(0)
    state, v, seen = class_losses(5), np.zeros(5), np.zeros(5, bool)
    active = np.array([True, True, False, True, True])
    run = jax.jit(lambda *a: group_dro(*a, rate=0.3, strength=0.5))
    for visit in range(6):
        label = rng.integers(0, 2 + visit // 2, size=7)
        value, counts = rng.normal(size=7), rng.random(7) < 0.8
        value = np.where(counts, value, 0.0).astype(np.float32)
        out, state = run(
            state,
            as_contrast(value, counts),
            jnp.ones(7),
            jnp.asarray(label),
            jnp.asarray(active),
        )
        for k in set(label[counts].tolist()):
            new = value[counts & (label == k)].mean()
            v[k], seen[k] = 0.7 * v[k] + 0.3 * new if seen[k] else new, True
        np.testing.assert_allclose(state.value, v, atol=1e-6)
        np.testing.assert_array_equal(state.seen, seen)
        known = seen & active
        guess = np.where(known, v, v[known].mean())
        e = np.where(active, np.exp(guess / 0.5), 0)
        np.testing.assert_allclose(out.weight, e / e.sum(), atol=1e-5)
        np.testing.assert_allclose(out.loss, (e / e.sum())[label].sum(), rtol=1e-4)


def estimate(draws, weight, values):
    """Mean over draws of the loss's sum of weight · share · value."""
    found = []
    for draw in draws:
        rows = np.where(draw.mask, values[draw.row], 0.0)
        found.append(np.sum(weight[LABEL[draw.row]] * draw.share * rows))
    return np.mean(found)


@pytest.mark.parametrize("weighting", ["gcl", "gdro"])
@pytest.mark.parametrize("sampler", ["uniform", "class_balanced"])
def test_shares_make_estimates_unbiased(sampler, weighting):
    """At fixed per-row losses the mean over batches is the whole pool's."""
    rng = np.random.default_rng(0)
    values = rng.uniform(0.5, 1.5, size=len(LABEL))
    p = np.array([0.1, 0.5, 0.1, 0.3]) if weighting == "gdro" else COUNTS / 10
    exact = sum(p[k] * values[k == LABEL].mean() for k in range(4))
    if sampler == "uniform":
        draws = (draw for _ in range(1500) for draw in uniform(rng, LABEL, 5))
    else:
        draws = (class_balanced(rng, LABEL, classes=2, rows=2) for _ in range(3000))
    assert abs(estimate(draws, p, values) / exact - 1) < 0.02


def test_means_over_the_classes_of_a_batch_are_biased():
    """Why there are shares: what comes to mind first is wrong by more than 5 %."""
    rng = np.random.default_rng(0)
    values, p = np.array([1.0, 1.0, 1.0, 0, 0, 0, 0, 0, 0, 4.0]), np.full(4, 0.25)
    exact = sum(p[k] * values[k == LABEL].mean() for k in range(4))
    naive = []
    for _ in range(1500):
        for draw in uniform(rng, LABEL, 5):
            label = LABEL[draw.row]
            present = np.unique(label)
            means = [p[k] * values[draw.row][label == k].mean() for k in present]
            naive.append(4 / len(present) * np.sum(means))
    assert abs(np.mean(naive) / exact - 1) > 0.05


def test_share_times_size_counts_every_row_of_the_pool_once():
    """So weighted, a batch's negatives stand for those of the whole pool."""
    rng, total = np.random.default_rng(0), np.zeros(4)
    for _ in range(2000):
        draw = class_balanced(rng, LABEL, classes=2, rows=2)
        label = LABEL[draw.row[draw.mask]]
        np.add.at(total, label, draw.share[draw.mask] * COUNTS[label] / 2000)
    np.testing.assert_allclose(total, COUNTS, rtol=0.06)


def test_info_nce_by_hand():
    """Logs of softmaxes over rows and columns, same texts and padding left out."""
    s = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    text, mask = np.array([0, 1, 1, 2]), np.array([True, True, True, False])
    expected = np.zeros(4)
    for i in range(3):
        kept = [j for j in range(3) if j == i or text[j] != text[i]]
        e = np.exp(s / 0.5)
        row, column = e[i, kept].sum(), e[kept, i].sum()
        expected[i] = -np.log(e[i, i] / row) / 2 - np.log(e[i, i] / column) / 2
    found = info_nce(
        jnp.asarray(s), jnp.asarray(text), jnp.asarray(mask), temperature=0.5
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    other = s.copy()
    other[3], other[:, 3] = 9.0, 9.0
    again = info_nce(
        jnp.asarray(other), jnp.asarray(text), jnp.asarray(mask), temperature=0.5
    )
    np.testing.assert_allclose(again, found, atol=1e-6)


def test_cross_entropy_is_the_softplus_of_the_contrast():
    """CE = softplus(log sum over others of exp of the gap)."""
    s = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    label, candidates = np.array([0, 2, 2, 0, 0]), np.array([True, False, True, True])
    mask = np.array([True, True, True, True, False])
    found = cross_entropy(
        jnp.asarray(s), label, jnp.asarray(candidates), mask, temperature=0.2
    )
    for i in range(4):
        gaps = [(s[i, c] - s[i, label[i]]) / 0.2 for c in (0, 2, 3) if c != label[i]]
        expected = np.logaddexp(0, np.log(np.sum(np.exp(gaps))))
        np.testing.assert_allclose(found[i], expected, rtol=1e-5)
    assert found[4] == 0
    # Classes not seen yet have neither weight nor gradient.
    total = lambda s: cross_entropy(
        s, label, jnp.asarray(candidates), mask, temperature=0.01
    ).sum()
    grads = jax.grad(total)(jnp.asarray(s))
    assert np.isfinite(grads).all() and not grads[:, 1].any() and not grads[4].any()


def test_classes_without_rows_weigh_nothing():
    """More classes that are not in the pool change nothing."""
    s = cosines(features(), LABEL).astype(jnp.float32)
    found, _ = step(estimators(10), s, rows_of(LABEL), rate=0.5, objective=HINGE)
    args = jnp.asarray(FULL_SHARE), jnp.asarray(LABEL)
    out, _ = group_dro(
        class_losses(4), found, *args, jnp.asarray(ACTIVE), rate=0.5, strength=0.1
    )
    old = ClassLosses(jnp.full(6, 99.0), jnp.array([False] * 4 + [True] * 2))
    more, _ = group_dro(old, found, *args, jnp.arange(6) < 4, rate=0.5, strength=0.1)
    np.testing.assert_allclose(more.loss, out.loss, rtol=1e-6)
    np.testing.assert_allclose(more.weight, [*out.weight, 0, 0], atol=1e-7)
    assert of_classes(found.surrogate, *args, out.weight) == out.loss
