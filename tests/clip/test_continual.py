"""Criteria, memory and batches together: two small towers learn twenty classes.

Classes are directions; images are their class's, turned and noisy, texts the class's.
Sixty other classes taught both towers the turn, so that new ones are known by their
texts, badly: the zero-shot accuracy. Then five tasks of four classes come.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ocssl_jax.clip.criteria import CRITERIA, Batch, Classes
from ocssl_jax.clip.memory import Kept, after_task, nothing
from ocssl_jax.clip.sampler import uniform
from ocssl_jax.clip.zero_shot import classify, similarities

INPUTS, HIDDEN, FEATURES = 32, 64, 16
KNOWN, TASKS, PER_TASK = 60, 5, 4
NEW = TASKS * PER_TASK
TRAIN, TEST, BATCH, EPOCHS = 30, 20, 32, 4
NOISE = 0.7
CONTRAST = {"rate": 0.9, "negatives": "class", "negative_weight": "sample"}
SETTINGS = {
    "cross_entropy": {"temperature": 0.1},
    "gcl": {"temperature": 0.1, **CONTRAST},
    "gdro": {
        "temperature": 0.2,
        **CONTRAST,
        "surrogate": "squared_hinge",
        "margin": 0.3,
        "class_rate": 0.9,
        "strength": 1.0,
    },
}


def tower(params, x):
    return jax.nn.relu(x @ params[0]) @ params[1]


def cosines(params, image, text):
    return similarities(tower(params["image"], image), tower(params["text"], text))


def images(rng, turn, texts, label):
    noise = rng.normal(size=(len(label), INPUTS)) * NOISE
    return (texts[label] @ turn + noise).astype(np.float32)


@cache
def world(seed):
    """Towers that know the turn, texts of the new classes, and their images."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(INPUTS, INPUTS)))[0]
    texts = rng.normal(size=(KNOWN + NEW, INPUTS)).astype(np.float32)
    size = ((INPUTS, HIDDEN), (HIDDEN, FEATURES))
    layer = lambda s: jnp.asarray(rng.normal(size=s) / s[0] ** 0.5, jnp.float32)
    layers = lambda: [layer(s) for s in size]
    params = {"image": layers(), "text": layers()}
    old, label = jnp.asarray(texts[:KNOWN]), np.repeat(np.arange(KNOWN), 10)
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(params, state, x):
        def loss(params):
            logits = cosines(params, x, old) / 0.1
            rows = optax.softmax_cross_entropy_with_integer_labels(logits, label)
            return rows.mean()

        moves, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, moves), state

    state = optimizer.init(params)
    for _ in range(150):
        x = jnp.asarray(images(rng, turn, texts, label))
        params, state = step(params, state, x)
    new = texts[KNOWN:]
    sets = []
    for count in (TRAIN, TEST):
        label = np.repeat(np.arange(NEW), count)
        sets.append((images(rng, turn, new, label), label))
    return params, jnp.asarray(new), *sets


@cache
def stepper(name):
    criterion, optimizer = CRITERIA[name](**SETTINGS[name]), optax.adam(1e-3)

    @jax.jit
    def step(params, state, kept, batch, classes, texts):
        def loss(params):
            s = cosines(params, batch.image, texts)
            total, after, _ = criterion.loss(kept, s, batch, classes)
            return total, after

        grads, after = jax.grad(loss, has_aux=True)(params)
        moves, state = optimizer.update(grads, state)
        return optax.apply_updates(params, moves), state, after

    return criterion, optimizer, step


def accuracies(params, texts, test, seen):
    """Of each task met so far, among the classes met so far."""
    x, label = test
    found = classify(
        cosines(params, jnp.asarray(x), texts), jnp.arange(NEW) < seen * PER_TASK
    )
    right = np.asarray(found) == label
    return [right[label // PER_TASK == t].mean() for t in range(seen)]


def batch_of(x, label, pool, draw):
    row = pool[draw.row]
    arrays = (x[row], label[row], row, draw.mask, draw.share)
    return Batch(*map(jnp.asarray, arrays))


def task(params, batches, step, texts, classes, state, kept):
    """Parameters and what the criterion keeps, after the batches."""
    for batch in batches:
        params, state, kept = step(params, state, kept, batch, classes, texts)
    return params, kept


@cache
def run(name, budget, seed):
    """Final accuracy, and forgetting: the mean drop from each task's best."""
    params, texts, (x, label), test = world(seed)
    criterion, optimizer, step = stepper(name)
    kept, memory, table = criterion.init(len(x), NEW), nothing(), []
    rng = np.random.default_rng(seed)
    for t in range(TASKS):
        ids = np.flatnonzero(label // PER_TASK == t)
        pool = np.concatenate([ids, memory.id])
        size = np.bincount(label[pool], minlength=NEW).astype(np.float32)
        seen = jnp.arange(NEW) < (t + 1) * PER_TASK
        classes = Classes(jnp.arange(NEW), jnp.asarray(size), seen)
        batches = (
            batch_of(x, label, pool, draw)
            for _ in range(EPOCHS)
            for draw in uniform(rng, label[pool], BATCH)
        )
        state = optimizer.init(params)
        params, kept = task(params, batches, step, texts, classes, state, kept)
        new = Kept(ids, label[ids], np.zeros(len(ids), int))
        memory = after_task(memory, new, budget=budget, seed=seed)
        table.append(accuracies(params, texts, test, t + 1))
    final = np.mean(table[-1])
    best = [max(row[s] for row in table[s:]) for s in range(TASKS - 1)]
    return final, np.mean([b - table[-1][s] for s, b in enumerate(best)])


def mean(name, budget):
    return np.mean([run(name, budget, seed) for seed in range(3)], axis=0)


def zero_shot():
    found = []
    for seed in range(3):
        params, texts, _, test = world(seed)
        found.append(np.mean(accuracies(params, texts, test, TASKS)))
    return np.mean(found)


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_learning_beats_zero_shot_and_memory_helps(name):
    """What was known of the classes by their texts is the floor, at any memory."""
    accuracy = [mean(name, budget)[0] for budget in (0, 20, 200)]
    assert accuracy == sorted(accuracy)
    assert accuracy[0] > zero_shot() + 0.02
    assert accuracy[-1] > accuracy[0] + 0.02


@pytest.mark.parametrize("budget", [0, 20])
def test_global_contrast_forgets_less_than_cross_entropy(budget):
    """With little memory; that group DRO beats GCL is not claimed, and not so here."""
    accuracy, forgotten = mean("gcl", budget)
    plain, plainly_forgotten = mean("cross_entropy", budget)
    assert forgotten < plainly_forgotten - 0.03
    assert accuracy > plain
