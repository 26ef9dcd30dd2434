"""EWC: the information against single rows' gradients, the penalty, the anchor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow
from tiny import stream, tiny_learning

from ocssl_jax.core import Learner
from ocssl_jax.errors import UsageError
from ocssl_jax.strategies.ewc import information

WEIGHT, LARGEST = 3.0, 1e-3
TASK = 5  # batches


@pytest.fixture(scope="module", params=["supervised", *slow("clip")])
def run(request):
    """States before each batch and after the last; memory of all of a task."""
    made = tiny_learning(
        strategy__name="ewc",
        strategy__ewc={"weight": WEIGHT, "samples": 20, "largest": LARGEST},
        method__name=request.param,
        augment__name="none",
        optimizer__name="adam",
        optimizer__learning_rate=0.01,
        passes=1,
    )
    batches = list(stream(12, short=False, labelled=True))
    states, seen = [jax.jit(made.init)(jax.random.key(0), batches[0])], []
    step = jax.jit(made.step)
    for batch in batches:
        state, metrics = step(states[-1], batch)
        states.append(state)
        seen.append(metrics)
    return made, batches, states, seen


def learner_of(made, state):
    return Learner(state.params["method"], state.model, made.method, made.prepare)


def squared(made, state, batches, row):
    """The squared gradient of a row's loss, as the method has it in a batch of one."""
    batch = batches[row // 4]
    one = lambda x: x[row % 4][None]
    items = jax.tree.map(one, batch.items())
    learner = learner_of(made, state)

    def loss(params):
        z = made.method.forward(
            params, state.model, made.prepare(items["image"]), train=False
        ).z
        logits = made.method.logits(params, z) if made.method.logits else z
        if made.method.meet:  # among the classes met so far
            logits = jnp.where(state.model["seen"], logits, -jnp.inf)
        return -jax.nn.log_softmax(logits)[0, items["label"][0]]

    return jax.tree.map(jnp.square, jax.grad(loss)(learner.params))


def test_information_is_the_mean_of_single_rows_squared_gradients(run):
    made, batches, states, _ = run
    state = states[TASK]
    rows = [squared(made, state, batches, i) for i in range(4 * TASK)]
    mean = jax.tree.map(lambda *x: np.mean(x, axis=0), *rows)
    expected = jax.tree.map(lambda x: np.minimum(x, LARGEST), mean)
    found = states[TASK + 1].strategy.fisher
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-9),
        found,
        expected,
    )
    largest = max(float(x.max()) for x in jax.tree.leaves(found))
    assert largest == pytest.approx(LARGEST)


def test_rows_that_do_not_count_have_no_say(run):
    made, batches, states, _ = run
    learner, items = learner_of(made, states[TASK]), batches[0].items()
    few, pool = jnp.arange(4) < 3, batches[0].pool
    classes = len(pool) if made.method.pooled else None
    key = jax.random.key(0)
    cut = jax.tree.map(lambda x: x[:3], items)
    a = information(key, learner, items, few, classes=classes)
    b = information(key, learner, cut, jnp.ones(3, bool), classes=classes)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), a, b)


def test_rows_count_alike_however_batches_are_drawn():
    """Class-balanced batches weigh rows in their loss, a likelihood has no weights."""
    found = []
    for balanced in (0, 2):
        made = tiny_learning(
            strategy__name="ewc", method__name="clip", stream__balanced=balanced
        )
        batch = next(stream(1, short=False, labelled=True))
        learner = learner_of(made, made.init(jax.random.key(0), batch))
        learner = learner.replace(
            model=made.method.meet(learner.model, batch.pool.at[0].set(90))
        )
        everyone, key = jnp.ones(4, bool), jax.random.key(1)
        found.append(information(key, learner, batch.items(), everyone, classes=10))
    near = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-12)
    jax.tree.map(near, *found)


def test_an_image_of_several_epochs_is_held_once():
    made = tiny_learning(
        strategy__name="ewc", method__name="supervised", strategy__ewc__samples=20
    )
    once = list(stream(5, short=False, labelled=True))
    thrice = [
        b._replace(boundary=b.boundary & (i == 0)) for i in range(3) for b in once
    ]
    state, step = made.init(jax.random.key(0), once[0]), jax.jit(made.step)
    for batch in thrice:
        state = step(state, batch)[0]
    held = state.strategy.present
    assert sorted(np.asarray(held.items["id"]).tolist()) == list(range(20))


def test_the_anchor_is_where_the_last_experience_ended(run):
    _, _, states, seen = run
    same = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)
    for number in (TASK + 1, 2 * TASK):
        same(states[number].strategy.anchor, states[TASK].params["method"])
    same(states[-1].strategy.anchor, states[2 * TASK].params["method"])
    # Nothing pulls in the first experience, nor at an anchor.
    pulled = [float(m["loss_anchor"]) for m in seen]
    assert pulled[: TASK + 1] == [0.0] * (TASK + 1) and pulled[2 * TASK] == 0.0
    assert all(x > 0 for x in pulled[TASK + 1 : 2 * TASK])
    # It grows with the second experience.
    total = lambda i: sum(x.sum() for x in jax.tree.leaves(states[i].strategy.fisher))
    assert total(2 * TASK + 1) > total(2 * TASK) > 0


def test_the_penalty_is_half_the_weighted_square(run):
    _, _, states, seen = run
    before = states[TASK + 2]
    kept, now = before.strategy, before.params["method"]
    gaps = jax.tree.map(
        lambda f, p, a: float(np.sum(f * (p - a) ** 2)), kept.fisher, now, kept.anchor
    )
    expected = WEIGHT / 2 * sum(jax.tree.leaves(gaps))
    assert float(seen[TASK + 2]["loss_anchor"]) == pytest.approx(expected, rel=1e-4)


def test_only_a_likelihood_has_information():
    with pytest.raises(UsageError, match=r"objective must be cross_entropy .* 'gcl'"):
        tiny_learning(
            strategy__name="ewc", method__name="clip", method__clip__objective="gcl"
        )
    with pytest.raises(UsageError, match=r"one of none, ewc, .* with method 'clip'"):
        tiny_learning(strategy__name="er", method__name="clip")
