"""CaSSLe: a teacher that is the learner at the last boundary, and nothing between."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_method import install, linear
from tiny import SHAPE, bits, stream, tiny_learning

from ocssl_jax.backbones.mlp import Mlp
from ocssl_jax.core import Batch, Learner
from ocssl_jax.strategies.align import align
from ocssl_jax.strategies.spaces import feature, projection
from ocssl_jax.strategies.teachers import PARTS, frozen

METHOD = linear(Mlp(5, jnp.float32), projection=3, dtype=jnp.float32)


def learner_of(seed):
    params, model = METHOD.init(jax.random.key(seed), jnp.zeros((1, *SHAPE)))
    return Learner(params, model, METHOD, None)


BATCHES = Batch(
    views=jax.random.normal(jax.random.key(9), (2, 3, *SHAPE)),
    mask=jnp.array([True, True, False]),
    items={},
)


@pytest.mark.parametrize(
    ("boundaries", "skipped"),
    [
        ([1, 0, 1, 0], [1, 1, 0, 0]),
        ([0, 0, 1, 0], [1, 1, 0, 0]),  # a first experience that nobody announced
        ([1, 1, 0, 1], [1, 0, 0, 0]),
        ([0, 0, 0, 0], [1, 1, 1, 1]),
    ],
)
def test_the_first_experience_ends_at_the_first_boundary_after_a_batch(
    boundaries, skipped
):
    for skip_first in (True, False):
        teacher = frozen(skip_first=skip_first)
        state = teacher.init(learner_of(0))
        for t, (boundary, without) in enumerate(zip(boundaries, skipped, strict=True)):
            state = teacher.begin(state, learner_of(t), jnp.asarray(boundary == 1))
            _, mask = teacher.project(state, learner_of(t), BATCHES, projection)
            target = not (skip_first and without)
            np.testing.assert_array_equal(mask, [target, target, False] * 2)


def test_targets_are_those_of_the_learner_at_the_last_boundary():
    teacher, current = frozen(skip_first=True), 0
    state = teacher.init(learner_of(0))
    for t, boundary in enumerate([True, False, True, False, False, True]):
        state = teacher.begin(state, learner_of(t), jnp.asarray(boundary))
        state = teacher.update(state, learner_of(t + 100))
        current = t if boundary else current
        old = learner_of(current).params
        e = BATCHES.views.reshape(6, -1) @ old["encoder"]["a"]
        e = e * np.tile(BATCHES.mask, 2)[:, None]
        z = e @ old["projector"]["b"]
        for space, expected in ((feature, e), (projection, z)):
            seen, _ = teacher.project(state, learner_of(t), BATCHES, space)
            np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-5)


def teacher(state):
    """Parameters of the frozen teacher, for `cassle` and `cassle_r`."""
    kept = state.strategy
    return (kept if hasattr(kept, "teacher") else kept[1]).teacher.params


def params(state):
    return {part: state.params["method"][part] for part in PARTS}


def same(a, b):
    return all(map(np.array_equal, bits(a), bits(b)))


@pytest.mark.parametrize("fidelity", ["paper", "reference"])
@pytest.mark.parametrize("name", ["cassle", "cassle_r"])
def test_the_teacher_changes_at_boundaries_and_first_teaches_after_one(
    monkeypatch, name, fidelity
):
    install(monkeypatch)
    learning = tiny_learning(
        method__name="linear",
        strategy__name=name,
        strategy__replay_size=2,
        strategy__use_aligner=False,
        strategy__align_criterion="mse",
        fidelity=fidelity,
    )
    step, starts = jax.jit(learning.step), (0, 3, 5)
    batches = list(stream(7, short=False))
    states, align = [learning.init(jax.random.key(0), batches[0])], []
    for t, batch in enumerate(batches):
        boundary = jnp.asarray(t in starts)
        state, metrics = step(states[-1], batch._replace(boundary=boundary))
        states.append(state)
        align.append(float(metrics["loss_align"]))
    assert same(teacher(states[0]), params(states[0]))
    for t, (before, after) in enumerate(itertools.pairwise(states)):
        assert same(teacher(after), params(before) if t in starts else teacher(before))
        assert not same(params(before), params(after))
    replayed = 1 if name == "cassle_r" else 0  # the first batch finds no memory
    first, later = align[replayed : starts[1]], align[starts[1] :]
    assert all(first) if fidelity == "reference" else not any(first)
    assert all(later)


def test_the_first_target_of_the_released_code_is_the_initial_projection():
    seen = {}
    for skip_first in (True, False):
        part = align(
            frozen(skip_first=skip_first),
            rows="all",
            on="projection",
            criterion="cosine",
            weight=2.0,
            hidden=4,
            use_aligner=False,
            train_head=True,
        )
        learner, stream = learner_of(0), SimpleNamespace(boundary=jnp.asarray(True))
        key = jax.random.key(0)
        _, state = part.init(key, learner, stream)
        state, _ = part.begin(key, state, learner, stream)
        out = METHOD.loss(learner.params, learner.model, BATCHES, key)
        seen[skip_first] = part.loss((), state, learner, BATCHES, out)["align"]
    np.testing.assert_allclose(seen[False], -2.0, rtol=1e-5)
    assert seen[True] == 0
