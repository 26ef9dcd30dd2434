"""Choosing by loss: units of a pool, ties, losses that are no numbers."""

from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import ssl_oracle as oracle
from tiny import SHAPE, tiny_learning

from ocssl_jax import retrieval
from ocssl_jax.core import Batch
from ocssl_jax.losses import barlow_twins

SOURCES = (256, 128)  # memory and stream rows of the paper's pool
ROWS = 12


@pytest.mark.parametrize("pure", [True, False])
@pytest.mark.parametrize("part", [1, 16])
def test_units_hold_every_position_once(part, pure):
    order = np.asarray(
        retrieval.units(jax.random.key(0), SOURCES, part=part, pure=pure)
    )
    assert order.shape == (384 // part, part) and order.dtype == np.int32
    assert sorted(order.reshape(-1)) == list(range(384))
    source = order >= SOURCES[0]
    assert (source.all(axis=1) | ~source.any(axis=1)).all() == (pure or part == 1)


def test_units_are_other_ones_each_time():
    a, b = (
        retrieval.units(jax.random.key(i), SOURCES, part=16, pure=True) for i in (0, 1)
    )
    together = lambda order: {frozenset(unit) for unit in np.asarray(order).tolist()}
    assert not together(a) & together(b)


@pytest.mark.parametrize(
    ("sources", "pure", "words"),
    [((250, 134), True, "250 and 134 rows"), ((250, 133), False, "383 rows")],
)
def test_rows_that_make_no_whole_units_are_refused(sources, pure, words):
    with pytest.raises(ValueError, match=f"^{words} do not make whole parts of 16"):
        retrieval.units(jax.random.key(0), sources, part=16, pure=pure)


@pytest.mark.parametrize("part", [1, 16])
def test_equal_scores_choose_each_source_by_its_size(part):
    """The share of the stream in 256 of 384 rows is hypergeometric, of mean 1/3."""

    @jax.jit
    @jax.vmap
    def share(key):
        order = retrieval.units(key, SOURCES, part=part, pure=True)
        best = retrieval.highest(jnp.zeros(len(order)), 256 // part)
        rows = order.reshape(-1)[retrieval.rows_of(best, part)]
        return jnp.mean(rows >= SOURCES[0])

    shares = share(jax.random.split(jax.random.key(3), 400))
    n, k = 384 // part, 256 // part
    sigma = np.sqrt(k * (1 / 3) * (2 / 3) * (n - k) / (n - 1)) / k
    assert abs(shares.mean() - 1 / 3) < 4 * sigma / np.sqrt(400)
    assert shares.std() == pytest.approx(sigma, rel=0.2)


def test_the_highest_are_those_of_a_sort():
    score = np.random.default_rng(0).normal(size=40)
    best = retrieval.highest(jnp.asarray(score), 7)
    assert best.tolist() == np.argsort(-score)[:7].tolist()


def test_units_become_rows():
    rows = retrieval.rows_of(jnp.array([2, 0]), 3)
    assert rows.tolist() == [6, 7, 8, 0, 1, 2]


def test_a_rise_that_is_no_number_is_chosen_last_and_counted():
    before = jnp.array([1.0, 1.0, jnp.nan, 1.0, jnp.inf, 1.0])
    after = jnp.array([3.0, jnp.nan, 0.0, 0.5, 1.0, jnp.nan])
    real = jnp.array([True, True, True, True, True, False])
    score, lost = retrieval.rise(before, after, real)
    assert score.dtype == jnp.float32
    np.testing.assert_array_equal(
        score, [2.0, -np.inf, -np.inf, -0.5, -np.inf, -np.inf]
    )
    assert lost == 3  # the masked row is nobody's concern
    assert retrieval.highest(score, 2).tolist() == [0, 3]


# Losses of units


@cache
def learner(name):
    """Method, and two sets of weights (params, model)."""
    method = tiny_learning(method__name=name).method
    init = jax.jit(method.init)
    return method, [init(jax.random.key(i), jnp.zeros((1, *SHAPE))) for i in (0, 1)]


def batch(rows=ROWS, seed=0):
    views = np.random.default_rng(seed).normal(size=(2, rows, *SHAPE))
    return Batch(jnp.asarray(views, jnp.float32), jnp.arange(rows) != 5, {})


@cache
def losses_of(name, part, train):
    method, _ = learner(name)
    return jax.jit(
        lambda params, model, batch: retrieval.unit_losses(
            method, params, model, batch, jax.random.key(0), part=part, train=train
        )
    )


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
    ("name", "part"), [("simclr", 1), ("byol", 1), ("barlow_twins", 4)]
)
def test_equal_weights_give_scores_of_exactly_0(name, part, train):
    _, (weights, _) = learner(name)
    copied = jax.tree.map(jnp.copy, weights)
    both = [losses_of(name, part, train)(*w, batch()) for w in (weights, copied)]
    chex.assert_shape(both, (ROWS // part,))
    score, lost = retrieval.rise(*both, jnp.ones(ROWS // part, bool))
    assert not score.any() and not lost


@pytest.mark.parametrize("name", ["simclr", "byol", "simsiam", "vicreg"])
def test_the_loss_of_a_row_goes_with_the_row(name):
    """Whatever the order in which the pool lies."""
    _, (weights, _) = learner(name)
    order = np.random.default_rng(1).permutation(ROWS)
    found = losses_of(name, 1, False)(*weights, batch())
    moved = losses_of(name, 1, False)(*weights, retrieval.taken(batch(), order))
    np.testing.assert_allclose(np.asarray(found)[order], moved, rtol=2e-4, atol=1e-5)


def test_running_statistics_judge_a_row_by_itself():
    """Other rows have no say in its projection, and nothing is moved."""
    method, ((params, model), _) = learner("byol")
    full, half = batch(), retrieval.taken(batch(), jnp.arange(ROWS // 2))
    see = lambda b: method.loss(params, model, b, None, train=False)
    np.testing.assert_allclose(see(full).z[:, : ROWS // 2], see(half).z, atol=1e-6)
    assert jax.tree.all(
        jax.tree.map(lambda a, b: bool((a == b).all()), see(full).model, model)
    )


def test_the_loss_of_a_part_is_the_whole_objective_of_its_rows():
    method, ((params, model), _) = learner("barlow_twins")
    seen = method.loss(params, model, batch(), None, train=False)
    z = np.asarray(seen.z, np.float64)
    found = losses_of("barlow_twins", 4, False)(params, model, batch())
    for unit, rows in enumerate(np.arange(ROWS).reshape(-1, 4)):
        rows = rows[rows != 5]  # the masked one
        want = oracle.barlow_twins(*z[:, rows], 0.005, 0.1)
        assert found[unit] == pytest.approx(np.max(want), rel=1e-4)


def test_two_gradients_of_one_loss_are_one():
    """The Gram form, for fewer rows than dimensions, and the direct one."""
    z1, z2 = np.random.default_rng(0).normal(size=(2, 6, 9)).astype(np.float32)
    mask = np.arange(6) != 2

    def loss(z1, z2):
        return barlow_twins(z1, z2, mask, off_diagonal=0.005, scale=0.1).max()

    def direct(z1, z2):
        """Spare rows, which are masked, make as many rows as dimensions."""
        z1, z2 = (jnp.concatenate([z, jnp.ones((4, 9))]) for z in (z1, z2))
        more = np.append(mask, np.zeros(4, bool))
        return barlow_twins(z1, z2, more, off_diagonal=0.005, scale=0.1).max()

    for few, many in zip(
        jax.value_and_grad(loss)(z1, z2),
        jax.value_and_grad(direct)(z1, z2),
        strict=True,
    ):
        np.testing.assert_allclose(few, many, rtol=2e-5, atol=2e-6)


def test_sixteen_rows_of_many_dimensions_cost_what_their_rank_says():
    """rank C <= 15: perfectly aligned views cost at least scale·lambda·(D²/15 − D)."""
    z = jax.random.normal(jax.random.key(0), (16, 2048))
    found = barlow_twins(z, z, jnp.ones(16, bool), off_diagonal=0.005, scale=0.1)
    floor = 0.1 * 0.005 * (2048**2 / 15 - 2048)  # 138.8
    assert floor == pytest.approx(138.8, abs=0.05)
    assert floor < found[0] < 1.01 * floor
