"""Co2L: who is an anchor, what is distilled, and its classifier."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import equal, stream, tiny_learning

from ocssl_jax.core import Learner
from ocssl_jax.errors import UsageError
from ocssl_jax.strategies.classifier import balanced_classifier, balanced_weights

TASK, MEMORY = 5, (0, 7)  # batches; images of the first task that come again
T, PAST, WEIGHT = 0.2, 0.05, 0.7


def learning(**fields):
    return tiny_learning(
        strategy__name="co2l",
        strategy__co2l__temperature=T,
        strategy__co2l__past_temperature=PAST,
        strategy__co2l__distill_weight=WEIGHT,
        method__name="clip",
        augment__name="none",
        passes=1,
        **fields,
    )


def arrivals(epochs=1):
    """Two tasks; two images of the first are in the second one's first batch."""
    batches = list(stream(2 * TASK, short=False, labelled=True))
    mixed = batches[TASK]
    swap = lambda name: (
        getattr(mixed, name)
        .at[:2]
        .set(jnp.stack([getattr(batches[i // 4], name)[i % 4] for i in MEMORY]))
    )
    batches[TASK] = mixed._replace(
        image=swap("image"), id=swap("id"), label=swap("label")
    )
    first, second = batches[:TASK], batches[TASK:]
    once = lambda part: [b._replace(boundary=jnp.asarray(False)) for b in part]
    again = lambda part: part + once(part) * (epochs - 1)
    return again(first) + again(second)


@pytest.fixture(scope="module")
def run():
    made, batches = learning(), arrivals()
    states, seen = [made.init(jax.random.key(0), batches[0])], []
    step = jax.jit(made.step)
    for batch in batches:
        state, metrics = step(states[-1], batch)
        states.append(state)
        seen.append(metrics)
    return made, batches, states, seen


def learner_of(made, state):
    return Learner(state.params["method"], state.model, made.method, made.prepare)


def test_images_of_an_earlier_task_are_no_anchors(run):
    made, batches, states, _ = run
    augment = lambda key, image: jnp.stack([made.prepare(image)] * 2)
    for number, expected in ((0, [1, 1, 1, 1]), (TASK, [0, 0, 1, 1])):
        batch, state = batches[number], states[number]
        learner = learner_of(made, state)
        kept, _ = made.strategy.begin(jax.random.key(0), state.strategy, learner, batch)
        found = made.strategy.draw(jax.random.key(0), kept, learner, batch, augment)
        assert np.asarray(found.loss_mask).astype(int).tolist() == expected


def relations(z, temperature):
    u = z / np.linalg.norm(z, axis=1, keepdims=True)
    s = u @ u.T / temperature
    np.fill_diagonal(s, -np.inf)
    return s - np.log(np.exp(s).sum(axis=1, keepdims=True))


def test_relations_of_both_views_are_distilled_from_the_end_of_the_last_task(run):
    made, batches, states, seen = run
    assert all(float(m["loss_distill"]) == 0 for m in seen[:TASK])
    number = TASK + 2
    x = made.prepare(batches[number].image)
    z = [
        np.asarray(
            made.method.forward(
                states[i].params["method"], states[number].model, x, train=True
            ).z,
            np.float64,
        )
        for i in (number, TASK)
    ]
    now, then = (np.concatenate([one, one]) for one in z)  # nothing is augmented
    p, log_q = np.exp(relations(then, PAST)), relations(now, T)
    rows = -np.sum(np.where(p > 0, p * np.where(p > 0, log_q, 0), 0), axis=1)
    found = float(seen[number]["loss_distill"])
    assert found == pytest.approx(WEIGHT * rows.mean(), rel=1e-3)


def held(kept):
    there = np.asarray(kept.rank) > np.iinfo(np.int32).min
    return sorted(np.asarray(kept.items["id"])[there].tolist())


@pytest.mark.parametrize("epochs", [1, 2])
def test_the_pool_is_every_image_of_task_and_memory_once(epochs):
    made, batches = learning(), arrivals(epochs)
    state, step = made.init(jax.random.key(0), batches[0]), jax.jit(made.step)
    for batch in batches:
        state, _ = step(state, batch)
    new = {int(i) for b in batches[epochs * TASK :] for i in b.id} - set(MEMORY)
    assert held(state.strategy.pool.new) == sorted(new)
    assert held(state.strategy.pool.old) == sorted(MEMORY)
    before = jax.device_get(state)
    head = jax.jit(made.head)(state)
    assert equal(before, state)
    known = np.asarray(head["bias"]) > -1e29
    labels = {int(x) for b in batches for x in b.label}
    assert set(np.flatnonzero(known)) == labels


def test_a_class_counts_the_same_however_many_rows_it_has():
    label, mask = np.array([0, 0, 0, 2, 2, 1]), np.array([1, 1, 1, 1, 0, 1], bool)
    weight, known = balanced_weights(jnp.asarray(label), jnp.asarray(mask), 4)
    np.testing.assert_allclose(weight, [1 / 9] * 3 + [1 / 3, 0, 1 / 3], rtol=1e-6)
    assert known.tolist() == [True, True, True, False]


def test_the_classifier_is_the_minimum_of_the_balanced_loss():
    """Its gradient there vanishes, in float64 and for features as they are."""
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 3], [40, 8, 4])
    e = rng.normal(size=(52, 3)) * [0.1, 1, 5] + 0.2 * label[:, None] + 1
    x = jnp.asarray(np.vstack([e, np.full((3, 3), 99.0)]), jnp.float32)
    y = jnp.asarray(np.append(label, [0, 0, 0]))
    mask = jnp.arange(55) < 52
    fit = jax.jit(balanced_classifier, static_argnames=("classes", "steps", "rate"))
    head = fit(x, y, mask, classes=4, steps=3000, rate=0.02)
    kernel, bias = (np.asarray(head[k], np.float64) for k in ("kernel", "bias"))
    logits = e @ kernel + bias
    assert (logits[:, 2] < -1e29).all()  # a class that never came
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    weight = 1 / np.bincount(label)[label] / 3
    slope = weight[:, None] * (p - np.eye(4)[label])
    scale = e.std(axis=0)
    assert np.abs(e.T @ slope / scale[:, None]).max() < 1e-3
    assert np.abs(slope.sum(axis=0)).max() < 1e-3


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"method__name": "supervised"}, "method.name must be clip .*'supervised'"),
        (
            {"method__name": "clip", "method__clip__objective": "gcl"},
            "objective must be sup_con with strategy 'co2l', got 'gcl'",
        ),
        (
            {"method__name": "clip", "stream__memory": 25},
            "memory_size must be at least 25 with strategy 'co2l'",
        ),
        (
            {"method__name": "clip", "strategy__co2l__temperature": 0.0},
            "must be above 0",
        ),
    ],
)
def test_what_it_cannot_work_with_is_told(fields, words):
    with pytest.raises(UsageError, match=words):
        tiny_learning(strategy__name="co2l", **fields)
