"""iCaRL's herding, quotas and classifier against plain loops."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import equal, stream, tiny_learning

from ocssl_jax.core import Learner
from ocssl_jax.report.memory_sheet import sheet_of
from ocssl_jax.strategies.herding import NOT_CHOSEN, herded, nearest_mean

herd = jax.jit(herded, static_argnums=4)


def plainly_herded(x, y, mask, quota, classes):
    place = np.full(len(x), NOT_CHOSEN)
    for c in range(classes):
        own = [i for i in range(len(x)) if mask[i] and y[i] == c]
        mean, total, left = x[own].mean(axis=0) if own else None, 0.0, list(own)
        for j in range(min(quota, len(own))):
            gaps = [np.sum((mean - (total + x[i]) / (j + 1)) ** 2) for i in left]
            best = left.pop(int(np.argmin(gaps)))
            place[best], total = j, total + x[best]
    return place


@pytest.mark.parametrize("quota", [1, 3, 50])
def test_herding_is_that_of_a_plain_loop(quota):
    rng = np.random.default_rng(quota)
    x, y = rng.normal(size=(40, 5)).astype(np.float32), rng.integers(0, 4, 40)
    mask = rng.random(40) < 0.8
    mask[y == 2] = False  # a class without rows
    found = herd(jnp.asarray(x), jnp.asarray(y), jnp.asarray(mask), jnp.int32(quota), 4)
    expected = plainly_herded(x.astype(np.float64), y, mask, quota, 4)
    np.testing.assert_array_equal(found, expected)


def test_the_nearest_mean_is_a_linear_classifier():
    rng = np.random.default_rng(0)
    e, kernel, bias = (rng.normal(size=s) for s in ((50, 6), (6, 4), (4,)))
    means, known = rng.normal(size=(4, 4)), np.array([True, True, False, True])
    head = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}
    found = nearest_mean(head, jnp.asarray(means), jnp.asarray(known))
    scores = e @ np.asarray(found["kernel"]) + np.asarray(found["bias"])
    logits = e @ kernel + bias
    gaps = ((logits[:, None] - means[None]) ** 2).sum(axis=2)
    gaps[:, ~known] = np.inf
    np.testing.assert_array_equal(scores.argmax(axis=1), gaps.argmin(axis=1))


@pytest.fixture(scope="module")
def run():
    made = tiny_learning(
        strategy__name="icarl", method__name="supervised", augment__name="none"
    )
    batches = list(stream(12, short=False, labelled=True))
    states, step = [made.init(jax.random.key(0), batches[0])], jax.jit(made.step)
    for batch in batches:
        states.append(step(states[-1], batch)[0])
    return made, batches, states


def held(state):
    kept = state.strategy.exemplars
    there = np.asarray(kept.place) < NOT_CHOSEN
    return {
        name: np.asarray(x)[there]
        for name, x in {
            **kept.items,
            "place": kept.place,
            "logits": kept.logits,
        }.items()
    }


def test_an_image_of_several_epochs_is_an_exemplar_once(run):
    made, batches, _ = run
    state, step = made.init(jax.random.key(0), batches[0]), jax.jit(made.step)
    twice = [*batches[:5], *batches[:5], batches[5]]  # with room for 24
    for i, batch in enumerate(twice):
        state = step(state, batch._replace(boundary=jnp.asarray(i in (0, 10))))[0]
    ids = held(state)["id"].tolist()
    assert sorted(ids) == list(range(20))


def test_nothing_is_chosen_before_a_task_has_ended(run):
    _, _, states = run
    assert not len(held(states[5])["id"]) and len(held(states[6])["id"])


def test_quotas_shrink_as_classes_come(run):
    """24 exemplars of 2 classes with 10 images each; then of 4 classes."""
    _, _, states = run
    first, second = held(states[6]), held(states[11])
    assert np.unique(first["label"], return_counts=True)[1].tolist() == [10, 10]
    assert np.unique(second["label"], return_counts=True)[1].tolist() == [6] * 4
    old = second["label"] < 2
    kept = first["id"][first["place"] < 6]  # the first that were chosen
    assert sorted(second["id"][old]) == sorted(kept)


def test_exemplars_are_herded_from_the_whole_task_by_the_learner_at_its_end(run):
    made, batches, states = run
    state = states[10]
    learner = Learner(state.params["method"], state.model, made.method, made.prepare)
    image = np.concatenate([b.image for b in batches[5:10]])
    label = np.concatenate([b.label for b in batches[5:10]])
    ids = np.concatenate([b.id for b in batches[5:10]])
    z = np.asarray(learner.embed(jnp.asarray(image)), np.float64)
    place = plainly_herded(z, label, np.ones(20, bool), 6, 4)
    found = held(states[11])
    assert set(found["id"][found["label"] > 1]) == set(ids[place < 6])
    again = learner.embed(jnp.asarray(found["image"]))
    np.testing.assert_allclose(found["logits"], again, rtol=1e-4, atol=1e-5)


def test_asking_for_the_classifier_changes_nothing(run):
    """It is the one of the exemplars that the next boundary chooses."""
    made, batches, states = run
    before = jax.device_get(states[10])
    head = jax.jit(made.head)(states[10])
    assert equal(before, states[10])
    known = np.asarray(head["bias"]) > -1e29
    assert known.tolist() == [True] * 4 + [False] * 6
    found = held(states[11])
    state = states[10]
    learner = Learner(state.params["method"], state.model, made.method, made.prepare)
    means = [found["logits"][found["label"] == c].mean(axis=0) for c in range(4)]
    seen = learner.encode(batches[0].image)
    gaps = ((np.asarray(seen.z)[:, None] - np.array(means)[None]) ** 2).sum(axis=2)
    scores = np.asarray(seen.e) @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    np.testing.assert_array_equal(scores.argmax(axis=1), gaps.argmin(axis=1))


def test_one_exemplar_of_each_old_class_is_distilled(run):
    made, batches, states = run
    state, batch = states[11], batches[11]
    learner = Learner(state.params["method"], state.model, made.method, made.prepare)
    augment = lambda key, image: made.prepare(image)[None]
    found = made.strategy.draw(
        jax.random.key(0), state.strategy, learner, batch, augment
    )
    mask = np.asarray(found.replay_mask)
    assert mask.tolist() == [True] * 4 + [False] * 6
    assert np.asarray(found.items["label"])[:4].tolist() == [0, 1, 2, 3]
    out = made.method.loss(learner.params, learner.model, found, jax.random.key(0))
    terms = made.strategy.loss((), state.strategy, learner, found, out)
    softmax = lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    p, q = (softmax(np.asarray(z, np.float64)[:4]) for z in (found.kept, out.z[0]))
    expected = np.mean(p * (np.log(p) - np.log(q)))  # over rows and classes
    assert expected > 1e-3
    np.testing.assert_allclose(terms["distill"], expected, rtol=1e-5)


@pytest.fixture(scope="module")
def words():
    """Exemplars of two classes with a classifier by words."""
    made = tiny_learning(
        strategy__name="icarl",
        strategy__icarl={"task_size": 24, "distill_weight": 2.0, "temperature": 2.0},
        method__name="clip",
        augment__name="none",
    )
    batches = list(stream(7, short=False, labelled=True))
    state, step = made.init(jax.random.key(0), batches[0]), jax.jit(made.step)
    for batch in batches[:6]:
        state, _ = step(state, batch)
    return made, batches, state


def test_directions_are_herded_and_the_nearest_mean_direction_is_the_class(words):
    made, batches, state = words
    learner = Learner(state.params["method"], state.model, made.method, made.prepare)
    head = jax.jit(made.head)(state)
    chosen = jax.jit(made.step)(state, batches[6]._replace(boundary=jnp.asarray(True)))
    kept = chosen[0].strategy.exemplars
    there = np.asarray(kept.place) < NOT_CHOSEN
    feature, label = np.asarray(kept.feature)[there], kept.items["label"][there]
    np.testing.assert_allclose(np.linalg.norm(feature, axis=1), 1.0, rtol=1e-5)
    means = np.stack([feature[label == c].mean(axis=0) for c in range(4)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    seen = learner.encode(batches[0].image)
    gaps = (
        (
            np.asarray(seen.z)[:, None] / np.linalg.norm(seen.z, axis=1)[:, None, None]
            - means[None]
        )
        ** 2
    ).sum(axis=2)
    scores = np.asarray(seen.e) @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    np.testing.assert_array_equal(scores.argmax(axis=1), gaps.argmin(axis=1))


def test_exemplars_are_classified_with_the_stream_and_distilled_as_words_score(words):
    made, batches, state = words
    learner = Learner(state.params["method"], state.model, made.method, made.prepare)
    augment = lambda key, image: made.prepare(image)[None]
    found = made.strategy.draw(
        jax.random.key(0), state.strategy, learner, batches[6], augment
    )
    # The pool: the stream's, and 10 exemplars of each of two classes.
    pool = np.asarray(batches[6].pool) + np.array([10] * 2 + [0] * 8)
    np.testing.assert_array_equal(found.pool, pool)
    assert np.asarray(found.loss_mask).sum() == 2 + 4
    out = made.method.loss(learner.params, learner.model, found, jax.random.key(0))
    logits = np.asarray(made.method.logits(learner.params, out.z[0]), np.float64)
    known = np.arange(10) < 4
    own = logits[np.arange(14), np.asarray(found.items["label"])]
    log_z = np.log(np.exp(logits[:, known]).sum(axis=1))
    mask = np.asarray(found.loss_mask)
    np.testing.assert_allclose(out.loss[0], (log_z - own)[mask].mean(), rtol=1e-4)
    # Scores that have moved since; by themselves they hardly have.
    moved = np.asarray(found.kept) + np.array([1.0, -0.5] + [0.0] * 8, np.float32)
    found = dataclasses.replace(found, kept=moved)
    # Among the two classes with exemplars alone; the mean is over all ten.
    softmax = lambda z: np.exp(z / 2) / np.exp(z / 2).sum(axis=1, keepdims=True)
    p, q = (softmax(np.asarray(z, np.float64)[:2, :2]) for z in (found.kept, logits))
    expected = 2 * np.sum(p * (np.log(p) - np.log(q))) / (2 * 10)
    terms = made.strategy.loss((), state.strategy, learner, found, out)
    assert expected > 1e-3
    np.testing.assert_allclose(terms["distill"], expected, rtol=1e-5)


def test_what_classes_to_come_are_called_has_no_say(words):
    """Their texts take no part in the distilled softmax."""
    made, batches, state = words
    learner = Learner(state.params["method"], state.model, made.method, made.prepare)
    augment = lambda key, image: made.prepare(image)[None]
    found = made.strategy.draw(
        jax.random.key(0), state.strategy, learner, batches[6], augment
    )

    def distilled(shift):
        """The loss and its slope where classes from the third on score otherwise."""
        moved = lambda params, z: made.method.logits(params, z).at[:, 2:].add(shift)
        other = learner.replace(method=made.method._replace(logits=moved))

        def loss(params):
            out = made.method.loss(params, learner.model, found, jax.random.key(0))
            now = other.replace(params=params)
            return made.strategy.loss((), state.strategy, now, found, out)["distill"]

        return jax.value_and_grad(loss)(learner.params)

    (a, slope), (b, same) = distilled(0.0), distilled(3.0)
    assert float(a) > 0 and float(a) == float(b)
    jax.tree.map(np.testing.assert_array_equal, slope, same)


def test_a_class_that_comes_back_is_herded_from_exemplars_and_new_images():
    """Digits 0 and 1 arrive in two experiences; nothing of the first may be lost."""
    made = tiny_learning(
        strategy__name="icarl", method__name="supervised", augment__name="none"
    )
    batches = [b._replace(label=b.label % 2) for b in stream(11, labelled=True)]
    state, step = made.init(jax.random.key(0), batches[0]), jax.jit(made.step)
    states = [state := step(state, batch)[0] for batch in batches]
    first, second = held(states[5]), held(states[10])
    learnt = states[9]
    learner = Learner(learnt.params["method"], learnt.model, made.method, made.prepare)
    pool = {
        name: np.concatenate([first[name], *(getattr(b, name) for b in batches[5:10])])
        for name in ("image", "label", "id")
    }
    z = np.asarray(learner.embed(jnp.asarray(pool["image"])), np.float64)
    place = plainly_herded(z, pool["label"], np.ones(len(z), bool), 12, 2)
    assert sorted(second["id"]) == sorted(pool["id"][place < 12])
    assert np.unique(second["label"], return_counts=True)[1].tolist() == [12, 12]
    assert {i < 20 for i in second["id"]} == {True, False}  # of both experiences


def test_the_sheet_of_the_memory_is_of_the_exemplars(run):
    state = run[2][11].strategy
    sheet = sheet_of(state, None, 24)
    assert sheet.caption == "exemplars: 24 of 24 images (100 %), ordered by class"
    shown = np.concatenate([group.images for group in sheet.groups])
    kept = held(run[2][11])
    assert sorted(map(bytes, shown)) == sorted(map(bytes, kept["image"]))
