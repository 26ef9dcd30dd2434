"""Whole methods: against the float64 oracle, with masked rows, without any row."""

from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import ssl_oracle as oracle
from tiny import SHAPE, bits, tiny_learning

from ocssl_jax.core import Batch
from ocssl_jax.losses import masked_mean

NAMES = ("simclr", "simsiam", "byol", "barlow_twins", "vicreg")
N = 8
SEEN = np.arange(N) != 6  # rows of the encoder
MASK = SEEN & (np.arange(N) % 3 != 1)  # rows of the objective: 0, 2, 3, 5
every_method = pytest.mark.parametrize("name", NAMES)


@cache
def method(name, backbone="mlp"):
    return tiny_learning(method__name=name, backbone__name=backbone).method


@cache
def started(name, backbone="mlp"):
    """Parameters and model; BYOL's slow copy is another network, not a true copy."""
    init = jax.jit(method(name, backbone).init)
    example = jnp.zeros((1, *SHAPE))
    params, model = init(jax.random.key(0), example)
    if name == "byol":
        _, other = init(jax.random.key(1), example)
        model = model | {"momentum": other["momentum"]}
    return params, model


def views(seed=0, garbage=100.0):
    """[2 n h w c]; rows that must not count hold NaN or `garbage`."""
    x = np.random.default_rng(seed).normal(size=(2, N, *SHAPE)).astype(np.float32)
    x[:, ~SEEN], x[:, SEEN & ~MASK] = np.nan, garbage
    return x


def batch(x, mask, objective=None):
    return Batch(views=x, mask=mask, items={}, objective=objective)


@cache
def graded(name):
    """(params, model, batch) -> (loss, outputs), gradient; compiled once a shape."""

    def objective(params, model, batch):
        out = method(name).loss(params, model, batch, jax.random.key(0))
        return masked_mean(out.loss, batch.loss_mask), out

    return jax.jit(jax.value_and_grad(objective, has_aux=True))


def float64(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def targets(params, model):
    """The parameters behind the targets."""
    return model["momentum"]["params"] if "momentum" in model else params


@every_method
def test_rows_equal_the_oracle_of_the_whole_network(name):
    params, model = started(name)
    (value, out), _ = graded(name)(params, model, batch(views(), SEEN, MASK))
    p, t = float64((params, targets(params, model)))
    want = oracle.loss(name, p, t, views().astype(np.float64)[:, MASK])
    np.testing.assert_allclose(out.loss[MASK], want, rtol=2e-3, atol=2e-4)
    np.testing.assert_array_equal(out.loss[~MASK], 0)
    assert float(value) == pytest.approx(want.mean(), rel=1e-3)


@every_method
def test_slope_equals_finite_differences_with_targets_held_constant(name):
    """The gradient along random directions; for SimSiam a moving target would show."""
    params, model = started(name)
    _, gradient = graded(name)(params, model, batch(views(), SEEN, MASK))
    p, t, g = float64((params, targets(params, model), gradient))
    x, rng, h = views().astype(np.float64)[:, MASK], np.random.default_rng(0), 1e-6

    def along(direction, *, both):
        def at(h):
            moved = jax.tree.map(lambda a, d: a + h * d, p, direction)
            return oracle.loss(name, moved, moved if both else t, x).mean()

        return (at(h) - at(-h)) / (2 * h)

    for _ in range(4):
        direction = jax.tree.map(lambda a: rng.normal(size=a.shape), p)
        dots = jax.tree.map(lambda a, b: np.sum(a * b), g, direction)
        got, want = sum(jax.tree.leaves(dots)), along(direction, both=False)
        assert got == pytest.approx(want, rel=5e-3, abs=1e-3)
        if name == "simsiam":
            assert abs(got - along(direction, both=True)) > 10 * abs(got - want)


@every_method
def test_rows_outside_the_objective_have_no_influence(name):
    """Whatever they hold; this encoder has no statistics that they might move."""
    params, model = started(name)
    (value, out), gradient = graded(name)(params, model, batch(views(), SEEN, MASK))
    x = views(garbage=-7.0)
    x[:, ~SEEN] = 1e30
    (value2, out2), gradient2 = graded(name)(params, model, batch(x, SEEN, MASK))
    chex.assert_trees_all_equal((value, gradient), (value2, gradient2))
    for a, b in ((out.loss, out2.loss), (out.z, out2.z), (out.model, out2.model)):
        chex.assert_trees_all_equal(a, b)
    np.testing.assert_array_equal(out.z[:, ~MASK], 0)


def test_every_encoder_sees_the_rows_that_the_objective_leaves_out():
    """The slow copy's too: both move the statistics of all rows seen."""
    params, model = started("byol", "convnet")
    run, key = jax.jit(method("byol", "convnet").loss), jax.random.key(0)
    part = run(params, model, batch(views(), SEEN, MASK), key)
    full = run(params, model, batch(views(), SEEN, SEEN), key)
    np.testing.assert_array_equal(part.e, full.e)
    np.testing.assert_array_equal(part.e[:, ~SEEN], 0)
    assert np.all(np.abs(part.e[:, SEEN]).max(axis=-1) > 0)
    for a, b in (
        (part.model, full.model),
        (part.model["momentum"]["model"], full.model["momentum"]["model"]),
    ):
        chex.assert_trees_all_equal(a["encoder"], b["encoder"])
        heads = zip(bits(a["projector"]), bits(b["projector"]), strict=True)
        assert not any(np.allclose(x, y, rtol=1e-3) for x, y in heads)


@every_method
@pytest.mark.parametrize("seen", [False, True])
def test_no_row_gives_no_loss_and_no_gradient(name, seen):
    params, model = started(name)
    none = np.zeros(N, bool)
    (value, out), gradient = graded(name)(
        params, model, batch(views(), SEEN & seen, none)
    )
    assert float(value) == 0
    for leaf in bits(gradient):
        np.testing.assert_array_equal(leaf, 0)
    # Nothing was projected: statistics stay where they are, the slow copy's too.
    chex.assert_trees_all_equal(out.model, model)


@every_method
def test_one_row_stays_finite(name):
    params, model = started(name)
    (value, out), gradient = graded(name)(
        params, model, batch(views(), SEEN, np.arange(N) == 2)
    )
    assert all(np.isfinite(leaf).all() for leaf in bits((value, out, gradient)))


@every_method
def test_permuted_rows_permute_and_swapped_views_change_nothing(name):
    params, model = started(name)
    order, x = np.random.default_rng(1).permutation(N), views(2)
    (_, out), _ = graded(name)(params, model, batch(x, SEEN, MASK))
    (_, moved), _ = graded(name)(
        params, model, batch(x[:, order], SEEN[order], MASK[order])
    )
    np.testing.assert_allclose(moved.loss, out.loss[order], rtol=2e-3, atol=1e-4)
    (_, other), _ = graded(name)(params, model, batch(x[::-1], SEEN, MASK))
    np.testing.assert_allclose(other.loss, out.loss, rtol=2e-3, atol=1e-4)


DISTANCES = {
    "simclr": lambda p, t: oracle.nt_xent(p, t, 0.5),
    "simsiam": lambda p, t: -oracle.cosines(p, t),
    "byol": lambda p, t: 2 - 2 * oracle.cosines(p, t),
    "barlow_twins": lambda p, t: oracle.barlow_twins(p, t, 0.005, 0.1),
    "vicreg": lambda p, t: ((p - t) ** 2).mean(axis=1),
}


@every_method
def test_distillation_is_the_objective_as_a_distance(name):
    p, t = np.random.default_rng(3).normal(size=(2, N, 6)).astype(np.float32)
    rows = np.asarray(method(name).distill(p, t, MASK))
    want = DISTANCES[name](p[MASK].astype(np.float64), t[MASK].astype(np.float64))
    np.testing.assert_allclose(rows[MASK], want, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(rows[~MASK], 0)
