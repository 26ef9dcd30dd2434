"""GEM: its quadratic programme against an exact solver, and what it keeps."""

from itertools import pairwise, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import stream, tiny_learning

from ocssl_jax.core import Batch, Learner
from ocssl_jax.losses import masked_mean
from ocssl_jax.strategies.gem_projection import RIDGE, nonnegative, projected

solve = jax.jit(nonnegative)
project = jax.jit(projected)


def exact(p, linear, margin):
    """The minimum over every set of variables at their bound, in float64."""
    best, found = np.inf, None
    for free in product((False, True), repeat=len(p)):
        free = np.array(free)
        v = np.full(len(p), margin)
        if free.any():
            rest = linear[free] + p[np.ix_(free, ~free)] @ v[~free]
            v[free] = np.linalg.solve(p[np.ix_(free, free)], -rest)
        value = v @ p @ v / 2 + linear @ v
        if (v >= margin - 1e-12).all() and value < best:
            best, found = value, v
    return found


@pytest.mark.parametrize("margin", [0.0, 0.5])
@pytest.mark.parametrize("tasks", [1, 4, 9])
def test_the_programme_agrees_with_an_exact_solver(tasks, margin):
    rng = np.random.default_rng(tasks)
    at_bound = []
    for _ in range(20):
        past = rng.normal(size=(tasks, 30)) / np.sqrt(30)
        own = rng.normal(size=30) / np.sqrt(30)
        p, linear = past @ past.T + RIDGE * np.eye(tasks), past @ own
        v = exact(p, linear, margin)
        f32 = lambda x: jnp.asarray(x, jnp.float32)
        found = solve(f32(p), f32(linear), jnp.ones(tasks, bool), margin=margin)
        np.testing.assert_allclose(found, v, rtol=1e-5, atol=1e-5)
        at_bound += (v == margin).tolist()
    assert any(at_bound) and (margin > 0 or not all(at_bound))


@pytest.mark.parametrize("alike", [0.9, 0.99])
def test_similar_gradients_still_give_the_right_step(alike):
    """v itself is hardly determined then; the step is."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        common = rng.normal(size=200)
        past = alike * common + (1 - alike) * rng.normal(size=(4, 200))
        own = rng.normal(size=200) - 0.1 * common
        p, linear = past @ past.T + RIDGE * np.eye(4), past @ own
        expected = own + exact(p, linear, 0.5) @ past if (linear < 0).any() else own
        found = project(
            jnp.asarray(own, jnp.float32),
            jnp.asarray(past, jnp.float32),
            jnp.ones(4, bool),
            margin=0.5,
        )
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_a_gradient_that_harms_nobody_is_left_alone():
    past, own = jnp.eye(3, 5), jnp.array([0.1, 0.0, 2.0, -1.0, 3.0])
    found = project(own, past, jnp.ones(3, bool), margin=0.5)
    np.testing.assert_array_equal(found, own)


def test_tasks_to_come_do_not_matter():
    past = jnp.array([[1.0, 0.0], [jnp.nan, jnp.inf]])
    real = jnp.array([True, False])
    own = jnp.array([-1.0, 2.0])
    found = project(own, past, real, margin=0.0)
    # Along the one that is there the inner product becomes 0, up to the ridge.
    np.testing.assert_allclose(found, [0.0, 2.0], atol=2 * RIDGE)


@pytest.fixture(scope="module")
def run():
    made = tiny_learning(
        strategy__name="gem",
        method__name="supervised",
        augment__name="none",
        passes=1,
        strategy__gem__margin=0.0,
        optimizer__momentum=0.0,
        optimizer__weight_decay=0.0,
    )
    batches = list(stream(13, short=False, labelled=True))
    state, step = made.init(jax.random.key(0), batches[0]), jax.jit(made.step)
    seen = []
    for batch in batches:
        seen.append((state, batch))
        state, _ = step(state, batch)
    return made, batches, [*seen, (state, None)]


def test_each_task_keeps_the_last_of_its_own_images(run):
    _, _, seen = run
    held = np.asarray(seen[-1][0].strategy.memory.items["id"])  # [4 tasks, 24 / 4]
    rank = np.asarray(seen[-1][0].strategy.memory.rank)
    for task, last in ((0, 20), (1, 40), (2, 52)):
        ids = held[task][rank[task] > np.iinfo(np.int32).min]
        assert sorted(ids) == list(range(last - 6, last))
    assert (rank[3] == np.iinfo(np.int32).min).all()


def test_a_step_raises_no_loss_of_an_earlier_task_to_first_order(run):
    made, _, seen = run
    turned = 0
    for (state, batch), (after, _) in pairwise(seen):
        params, model = state.params["method"], state.model
        learner = Learner(params, model, made.method, made.prepare)
        step = jax.tree.map(lambda a, b: b - a, params, after.params["method"])
        task = int(state.strategy.task) + bool(batch.boundary)
        for t in range(task):
            memory = jax.tree.map(lambda x, t=t: x[t], state.strategy.memory)
            slope = gradient(learner, memory)
            inner = sum(
                float(jnp.vdot(a, b))
                for a, b in zip(
                    jax.tree.leaves(slope), jax.tree.leaves(step), strict=True
                )
            )
            size = float(jnp.sqrt(sum(jnp.vdot(x, x) for x in jax.tree.leaves(slope))))
            assert inner <= 1e-3 * size
            turned += abs(inner) < 1e-3 * size
    assert turned  # some were projected onto the boundary


def gradient(learner, held):
    mask = held.rank > np.iinfo(np.int32).min
    rows = Batch(learner.prepare(held.items["image"])[None], mask, held.items)

    def loss(params):
        out = learner.method.loss(params, learner.model, rows, jax.random.key(0))
        return masked_mean(out.loss, mask)

    return jax.grad(loss)(learner.params)
