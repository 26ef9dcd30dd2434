"""FOSTER: which network is when, and both phases' losses beside plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import stream, tiny_learning

from ocssl_jax.errors import UsageError
from ocssl_jax.strategies.foster import effective

TASK, EPOCHS, BOOSTING = 5, 3, 2  # batches; epochs of a task, and those that boost
T, WEIGHT, BETA, STUDENT = 2.0, 0.7, 0.9, 0.8
SECOND, COMPRESSING = TASK * EPOCHS, TASK * (EPOCHS + BOOSTING)  # first batches


@pytest.fixture(scope="module")
def run():
    """States before each batch and after the last of two tasks, and their logs."""
    made = tiny_learning(
        strategy__name="foster",
        strategy__foster={
            "boosting": BOOSTING,
            "distill_weight": WEIGHT,
            "temperature": T,
            "beta": BETA,
            "student_beta": STUDENT,
        },
        stream__epochs=EPOCHS,
        method__name="clip",
        augment__name="none",
        optimizer__name="adam",
        optimizer__learning_rate=0.01,
        passes=1,
    )
    once, batches = list(stream(2 * TASK, short=False, labelled=True)), []
    for start in (0, TASK):
        for epoch in range(EPOCHS):
            batches += [
                b._replace(
                    epoch=jnp.int32(epoch), boundary=jnp.asarray(epoch == 0 == i)
                )
                for i, b in enumerate(once[start : start + TASK])
            ]
    # Three images of the first class are in memory.
    pool = lambda b: b.pool.at[0].set(3.0)
    batches[SECOND:] = [b._replace(pool=pool(b)) for b in batches[SECOND:]]
    states, seen = [made.init(jax.random.key(0), batches[0])], []
    step = jax.jit(made.step)
    for batch in batches:
        state, metrics = step(states[-1], batch)
        states.append(state)
        seen.append(metrics)
    return made, batches, states, seen


def logits(made, state, stats, batch, *, train):
    """[n 4] of the classes of both tasks, in float64."""
    params = state.params["method"]
    x = made.prepare(batch.image)
    z = made.method.forward(params, stats, x, train=train).z
    return np.asarray(made.method.logits(params, z), np.float64)[:, :4]


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def weights(beta):
    """Of classes of 3 images, of one that has none left, and of 10 twice."""
    own = (1 - beta) / (1 - beta ** np.array([3, 1, 10, 10]))
    return own / own.mean()


def networks(run, number, *whose):
    """Logits of the learner at a batch, and of constant networks."""
    made, batches, states, _ = run
    at = lambda i, train: logits(
        made, states[i], states[i].model, batches[number], train=train
    )
    return at(number, True), *(at(i, False) for i in whose)


def test_nothing_is_added_in_the_first_task(run):
    _, _, states, seen = run
    for name in ("boost", "distill", "compress"):
        assert all(float(m[f"loss_{name}"]) == 0 for m in seen[:SECOND])
    assert not np.any(states[SECOND].strategy.known)
    assert all(float(m["loss_supervised"]) > 0 for m in seen[:SECOND])


def test_networks_are_those_of_the_task_before_and_of_the_end_of_boosting(run):
    _, _, states, _ = run
    same = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)

    def left(state):
        kept = {part: state.model[part] for part in ("encoder", "projector")}
        return state.params["method"], kept

    for number in range(SECOND + 1, len(states)):
        same(tuple(states[number].strategy.old), left(states[SECOND]))
    for number in range(COMPRESSING + 1, len(states)):
        same(tuple(states[number].strategy.new), left(states[COMPRESSING]))
    compressing = [bool(s.strategy.compressing) for s in states]
    assert compressing.index(True) == COMPRESSING + 1


def test_boosting_is_cross_entropy_of_the_aligned_sum_and_of_the_new_network(run):
    number = SECOND + 3
    _, batches, _, seen = run
    now, old = networks(run, number, SECOND)
    label, total = np.asarray(batches[number].label), old + now
    aligned = (total - total.mean(axis=1, keepdims=True)) / weights(BETA)
    ce = lambda x: -log_softmax(x)[np.arange(len(label)), label].mean()
    assert float(seen[number]["loss_boost"]) == pytest.approx(ce(aligned), rel=1e-3)
    alone = float(seen[number]["loss_supervised"])
    assert alone == pytest.approx(ce(now), rel=1e-3)
    p = np.exp(log_softmax(old[:, :2] / T))
    keep = -(p * log_softmax(total[:, :2] / T)).sum(axis=1).mean()
    found = float(seen[number]["loss_distill"])
    assert found == pytest.approx(WEIGHT * keep, rel=1e-3)
    assert float(seen[number]["loss_compress"]) == 0


def test_compression_is_balanced_distillation_of_the_sum_and_nothing_else(run):
    number = COMPRESSING + 2
    _, _, _, seen = run
    now, old, new = networks(run, number, SECOND, COMPRESSING)
    p = np.exp(log_softmax((old + new) / T)) * weights(STUDENT)
    p /= p.sum(axis=1, keepdims=True)
    expected = -(p * log_softmax(now / T)).sum(axis=1).mean()
    found = float(seen[number]["loss_compress"])
    assert found == pytest.approx(expected, rel=1e-3)
    for name in ("supervised", "boost", "distill"):
        assert float(seen[number][f"loss_{name}"]) == 0
    assert float(seen[number]["loss"]) == pytest.approx(found)


def test_effective_numbers():
    pool, met = jnp.array([100.0, 2.0, 0.0, 7.0]), jnp.array([True, True, True, False])
    found = np.asarray(effective(pool, met, 0.97))
    own = 0.03 / (1 - 0.97 ** np.array([100, 2, 1, 7]))
    np.testing.assert_allclose(found, own / own[:3].mean(), rtol=1e-4)
    assert found[:3].mean() == pytest.approx(1)
    np.testing.assert_allclose(effective(pool, met, 0.0), 1.0)
    own = 1e-8 / (1 - (1 - 1e-8) ** np.array([100, 2, 1]))  # float32 has no 1 - 1e-8
    found = effective(pool, met, 1 - 1e-8)[:3]
    np.testing.assert_allclose(found, own / own.mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"method__name": "supervised"}, "method.name must be clip .*'supervised'"),
        (
            {"method__name": "clip", "method__clip__objective": "gdro"},
            "objective must be cross_entropy with strategy 'foster', got 'gdro'",
        ),
        ({"stream__epochs": 1}, "below stream.epochs 1, got 1"),
        ({"strategy__foster__temperature": 0.0}, "temperature must be above 0"),
        ({"strategy__foster__beta": 1.0}, "lie in"),
    ],
)
def test_what_it_cannot_work_with_is_told(fields, words):
    with pytest.raises(UsageError, match=words):
        tiny_learning(strategy__name="foster", **{"method__name": "clip", **fields})
