"""The one step, criteria, memory and batches together: small towers, twenty classes.

Classes are directions; images are their class's, turned and noisy, texts the class's.
Sixty other classes taught both towers the turn, so that new ones are known by their
texts, badly: the zero-shot accuracy. Then five tasks of four classes come.
"""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from marks import slow_but

from ocssl_jax.clip.criteria import CRITERIA
from ocssl_jax.clip.words import Words
from ocssl_jax.clip.zero_shot import classify, similarities
from ocssl_jax.core import Stream
from ocssl_jax.data import benchmark, remembered, schedule
from ocssl_jax.feed import pools_of
from ocssl_jax.heads import Projector
from ocssl_jax.methods.clip import by_words
from ocssl_jax.optim import make_optimizer
from ocssl_jax.schedules import constant
from ocssl_jax.step import make_step
from ocssl_jax.strategies.none import none

INPUTS, HIDDEN, FEATURES = 32, 64, 16
KNOWN, TASKS, PER_TASK = 60, 5, 4
NEW = TASKS * PER_TASK
TRAIN, TEST, BATCH, EPOCHS = 30, 20, 32, 4
SIZES = ((INPUTS, HIDDEN), (HIDDEN, FEATURES))
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


class Images(NamedTuple):
    """Rows [n 1 1 INPUTS] float32 and their labels."""

    image: np.ndarray
    train_label: np.ndarray
    class_names: tuple[str, ...] = ("",) * NEW


class Hidden(nn.Module):
    """A backbone of one layer."""

    @nn.compact
    def __call__(self, x, *, train, mask=None):
        return nn.relu(nn.Dense(HIDDEN, use_bias=False)(x[:, 0, 0]))


def words(texts):
    """The texts of classes [k INPUTS], read by two layers; they are no weights.

    They are among the parameters all the same: one compiled step for all worlds.
    """

    def init(key):
        del key
        return {"layers": [jnp.zeros(size) for size in SIZES], "texts": texts}

    def rows(params):
        first, second = params["layers"]
        x = jax.lax.stop_gradient(params["texts"])
        return jax.nn.relu(x @ first) @ second

    return Words(init, rows, jnp.arange(len(texts)))


@cache
def learner(name, classes, images, rate):
    """Method and compiled functions of an objective, whatever the texts are."""
    projector = Projector(FEATURES, False, jnp.float32, layers=1, norms="all")
    method = by_words(
        Hidden(),
        projector,
        words(jnp.zeros((classes, INPUTS))),
        CRITERIA[name](**SETTINGS[name]),
        train_images=images,
        temperature=SETTINGS[name]["temperature"],
    )
    optimizer = make_optimizer(
        "adam",
        schedule=constant(1, peak=rate, momentum=0.9),
        momentum_reset=False,
        weight_decay=0.0,
    )
    init, step = make_step(
        method,
        none(),
        optimizer,
        augment=lambda key, x: x[None],
        prepare=lambda x: x,
        passes=1,
    )
    return method, init, jax.jit(step)


def begun(init, batch, **parts):
    """The first state, with `parts` of the method's parameters in place of random."""
    state = jax.jit(init)(jax.random.key(0), batch)
    given = jax.tree.map(jnp.asarray, parts)
    ours = state.params["method"] | given
    return state.replace(params={**state.params, "method": ours})


def images(rng, turn, texts, label):
    noise = rng.normal(size=(len(label), INPUTS)) * NOISE
    rows = (texts[label] @ turn + noise).astype(np.float32)
    return Images(rows[:, None, None], label)


def arrived(data, plan, pools, step):
    """A batch of the schedule."""
    ids = plan.id[step]
    phase = np.cumsum(plan.boundary)[step] - 1
    fields = data.image[ids], ids, plan.mask[step], plan.boundary[step]
    return Stream(*map(jnp.asarray, (*fields, data.train_label[ids], pools[phase])))


def whole(data, classes):
    """All images as one batch."""
    n, pool = len(data.image), np.bincount(data.train_label, minlength=classes)
    fields = data.image, np.arange(n), np.ones(n, bool), np.array(True)
    label = data.train_label.astype(np.int32)
    return Stream(*map(jnp.asarray, (*fields, label, pool.astype(np.float32))))


@cache
def world(seed):
    """Towers that know the turn, texts of the new classes, and their images."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(INPUTS, INPUTS)))[0]
    texts = rng.normal(size=(KNOWN + NEW, INPUTS)).astype(np.float32)
    layer = lambda size: jnp.asarray(
        rng.normal(size=size) / size[0] ** 0.5, jnp.float32
    )
    towers = [[layer(size) for size in SIZES] for _ in range(2)]
    label = np.repeat(np.arange(KNOWN), 10)
    _, init, step = learner("cross_entropy", KNOWN, len(label), 3e-3)
    batch = lambda: whole(images(rng, turn, texts, label), KNOWN)
    state = begun(
        init,
        whole(images(np.random.default_rng(0), turn, texts, label), KNOWN),
        encoder={"Dense_0": {"kernel": towers[0][0]}},
        projector={"linear1": {"kernel": towers[0][1]}},
        text={"layers": towers[1], "texts": texts[:KNOWN]},
    )
    for _ in range(150):
        state, _ = step(state, batch())
    ours = jax.device_get(state.params["method"])
    ours["text"]["texts"] = texts[KNOWN:]
    sets = [
        images(rng, turn, texts[KNOWN:], np.repeat(np.arange(NEW), count))
        for count in (TRAIN, TEST)
    ]
    return ours, *sets


def accuracies(method, state, test, seen):
    """Of each task met so far, among the classes met so far."""
    ours = state.params["method"]
    z = method.forward(ours, state.model, jnp.asarray(test.image), train=False).z
    rows = words(ours["text"]["texts"]).rows(ours["text"])
    among = jnp.arange(NEW) < seen * PER_TASK
    right = np.asarray(classify(similarities(z, rows), among)) == test.train_label
    task = test.train_label // PER_TASK
    return [right[task == t].mean() for t in range(seen)]


@cache
def run(name, budget, seed):
    """Final accuracy, and forgetting: the mean drop from each task's best."""
    ours, train, test = world(seed)
    label = train.train_label
    bench = benchmark(
        label,
        test.train_label,
        kind="class",
        tasks=TASKS,
        order=tuple(range(NEW)),
        seed=0,
        val_ratio=0.0,
    )
    bench = remembered(bench, label, None, budget=budget, seed=seed)
    plan = schedule(bench, key_seed=seed, batch_size=BATCH, epochs=EPOCHS)
    pools = pools_of(train, plan)
    method, init, step = learner(name, NEW, len(label), 1e-3)
    state = begun(init, arrived(train, plan, pools, 0), **ours)
    fresh = state.opt_state  # with each task, as the paper's baselines are tuned
    table, last = [], np.flatnonzero(np.diff(plan.experience, append=TASKS))
    for i in range(len(plan.experience)):
        state, _ = step(state, arrived(train, plan, pools, i))
        if i in last:
            state = state.replace(opt_state=fresh)
            table.append(accuracies(method, state, test, len(table) + 1))
    final = np.mean(table[-1])
    best = [max(row[s] for row in table[s:]) for s in range(TASKS - 1)]
    return final, np.mean([b - table[-1][s] for s, b in enumerate(best)])


def mean(name, budget):
    return np.mean([run(name, budget, seed) for seed in range(3)], axis=0)


def zero_shot():
    found = []
    for seed in range(3):
        ours, train, test = world(seed)
        method, init, _ = learner("gcl", NEW, len(train.image), 1e-3)
        state = begun(init, whole(train, NEW), **ours)
        found.append(np.mean(accuracies(method, state, test, TASKS)))
    return np.mean(found)


@pytest.mark.parametrize("name", slow_but(["gcl"], SETTINGS))
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
