"""RALS: which rows it takes, what it leaves alone, what it tells."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import BATCH, stream, tiny_config, tiny_learning

from ocssl_jax import retrieval
from ocssl_jax.core import Learner
from ocssl_jax.errors import UsageError
from ocssl_jax.strategies.rals import chosen_units, rals

REPLAY = 6
SETTINGS = {
    "batch_size": BATCH,
    "memory": "reservoir",
    "memory_size": 24,
    "replay_size": REPLAY,
    "feature_decay": 0.5,
    "selected": 5,
    "choice": "rise",
    "part_size": 2,
    "pure_parts": True,
    "batch_statistics": False,
}
MANY = 12  # batches: the memory is full


class World:
    """A strategy on a tiny method, its memory full, before a stream batch."""

    def __init__(self, method="simclr", **changed):
        self.part = rals(**(SETTINGS | changed))
        made = tiny_learning(method__name=method, augment__name="none")
        self.made, init = made, jax.jit(made.method.init)
        batches = list(stream(MANY, short=False))
        example = made.prepare(batches[0].image[:1])
        self.now, self.then = (
            Learner(*init(jax.random.key(seed), example), made.method, made.prepare)
            for seed in (1, 0)
        )
        self.stream = batches[-1]
        _, state = self.part.init(jax.random.key(2), self.then, self.stream)
        for i, batch in enumerate(batches[:-1]):
            begun, _ = self.begin(state, batch)
            end = jax.random.key(10 + i)
            state, _ = self.part.end(end, begun, self.then, batch, None)
        self.memory = state

    def begin(self, state, batch):
        return self.part.begin(jax.random.key(0), state, self.then, batch)

    def augment(self, key, images):
        """Two views, one of them the negative: no chance is in them."""
        x = self.made.prepare(images)
        return jnp.stack([x, -x])

    def draw(self, key, learner, batch=None):
        batch = batch or self.stream
        begun, _ = self.begin(self.memory, batch)
        return self.part.draw(key, begun, learner, batch, self.augment)


@cache
def world(method="simclr", **changed):
    return World(method, **changed)


def pool_of(w, key):
    """The pool that a draw with `key` chooses from: a draw that takes all of it."""
    return world(selected=REPLAY + BATCH, choice="random").draw(key, w.now)


@pytest.mark.parametrize("train", [False, True], ids=["running", "batch"])
def test_it_takes_the_rows_whose_loss_has_risen_most(train):
    """With either kind of BN statistics."""
    w, key = world(batch_statistics=train), jax.random.key(5)
    pool = pool_of(w, key)
    losses = [
        np.asarray(w.made.method.loss(a.params, a.model, pool, None, train=train).loss)
        for a in (w.then, w.now)
    ]
    best = np.argsort(losses[0] - losses[1])[:5]
    found = w.draw(key, w.now)
    assert sorted(found.items["id"].tolist()) == sorted(pool.items["id"][best].tolist())
    assert found.views.shape[:2] == (2, 5) and found.mask.all()
    fresh = np.isin(found.items["id"], w.stream.id).mean()
    assert found.told["stream_ratio"] == pytest.approx(fresh)
    assert found.told["unscored"] == 0


def test_views_masks_and_items_stay_together():
    w = world()
    found = w.draw(jax.random.key(6), w.now)
    np.testing.assert_array_equal(found.views, w.augment(None, found.items["image"]))


def test_parts_are_chosen_as_one_and_hold_one_source():
    w = world("barlow_twins", selected=4)
    found = w.draw(jax.random.key(7), w.now)
    fresh = np.isin(found.items["id"], w.stream.id)
    assert fresh.shape == (4,)
    assert (fresh.reshape(2, 2).sum(axis=1) != 1).all()


def test_before_anything_moves_the_choice_is_random():
    """Learner and anchor are one: the mean share of the stream is b / (b + R)."""
    w = world()
    draw = jax.jit(jax.vmap(lambda key: w.draw(key, w.then).told["stream_ratio"]))
    shares = draw(jax.random.split(jax.random.key(8), 300))
    assert len(np.unique(shares)) > 2
    mean, sigma = BATCH / (BATCH + REPLAY), np.std(shares) / np.sqrt(len(shares))
    assert abs(shares.mean() - mean) < 4 * sigma


def test_a_random_choice_looks_at_no_loss():
    w = world(choice="random")

    def never(*args, **kwargs):
        raise AssertionError("a loss was asked for")

    method = w.now.method._replace(loss=never)
    learner = Learner(w.now.params, w.now.model, method, w.made.prepare)
    assert w.draw(jax.random.key(9), learner).mask.sum() == 5


def test_masked_rows_come_last():
    w = world()
    short = w.stream._replace(mask=jnp.arange(BATCH) == 0)
    found = w.draw(jax.random.key(11), w.now, short)
    real = set(w.stream.id[1:].tolist()) & set(found.items["id"].tolist())
    assert not real and found.mask.all()
    everything = world(selected=REPLAY + BATCH).draw(jax.random.key(11), w.now, short)
    assert everything.mask.sum() == REPLAY + 1


def test_rows_without_a_finite_loss_are_not_taken_and_are_counted():
    w = world()
    broken = jax.tree.map(lambda x: x * jnp.nan, w.now.params)
    learner = Learner(broken, w.now.model, w.now.method, w.made.prepare)
    assert w.draw(jax.random.key(12), learner).told["unscored"] == REPLAY + BATCH


@pytest.mark.slow
def test_judging_leaves_no_trace():
    """Where all of the pool is taken, choosing is but another order of the rows.

    Sums over another order round otherwise, and ReLUs flip: the tolerance is wide.
    """
    after = []
    for choice in ("rise", "random"):
        made = tiny_learning(
            strategy__name="rals",
            strategy__rals__selected=REPLAY + BATCH,
            strategy__rals__choice=choice,
            backbone__name="mlp",
        )
        first, *rest = stream(3, short=False)
        state, step = jax.jit(made.init)(jax.random.key(0), first), jax.jit(made.step)
        for batch in (first, *rest):
            state, metrics = step(state, batch)
        assert metrics["stream_ratio"].shape == (2,)
        after.append((state.params, state.model, metrics["loss"]))
    for a, b in zip(*map(jax.tree.leaves, after), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=5e-3)


def test_rows_that_are_learnt_are_left():
    """Figure 3b: the more the stream's rows are trained on, the fewer are chosen."""
    w = world()
    pool = pool_of(w, jax.random.key(14))
    fresh = np.isin(pool.items["id"], w.stream.id)

    @jax.jit
    @jax.grad
    def gradient(params):
        out = w.then.method.loss(params, w.then.model, pool, None, train=False)
        return out.loss[fresh].mean()

    keys = jax.random.split(jax.random.key(13), 100)
    ratio = jax.jit(
        lambda params: jax.vmap(
            lambda key: w.draw(key, dataclasses.replace(w.then, params=params)).told[
                "stream_ratio"
            ]
        )(keys).mean()
    )
    params, shares = w.then.params, []
    for updates in (1, 4, 0):
        shares.append(ratio(params))
        for _ in range(updates):
            step = jax.tree.map(lambda g: -0.002 * g, gradient(params))
            params = optax.apply_updates(params, step)
    assert shares[0] == pytest.approx(BATCH / (BATCH + REPLAY), abs=0.1)
    assert shares[0] > shares[1] + 0.1 and shares[1] > shares[2]
    assert shares[2] < 0.1


def test_two_thirds_of_the_papers_pools():
    assert chosen_units(384, 0, 1) == 256
    assert chosen_units(384, 0, 16) == 16 == chosen_units(384, 256, 16)
    assert chosen_units(10, 7, 1) == 7
    with pytest.raises(
        ValueError, match=r"a multiple of 16 and at most 384, .* got 250"
    ):
        chosen_units(384, 250, 16)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"strategy__rals__selected": 11}, "selected must be at most 10, .* got 11"),
        ({"strategy__rals__choice": "best"}, "choice must be one of rise, random, got"),
        (
            {"method__name": "barlow_twins"},
            "stream.batch_size must be a multiple of strategy.rals.part_size 16",
        ),
        (
            {
                "method__name": "barlow_twins",
                "strategy__rals__part_size": 4,
                "strategy__rals__pure_parts": False,
            },
            "must add up to a multiple of strategy.rals.part_size 4, got 10",
        ),
        ({"strategy__rals__part_size": 1}, "part_size must be at least 2, got 1"),
    ],
)
def test_what_cannot_be_chosen_is_refused_at_the_door(fields, words):
    with pytest.raises(UsageError, match=words) as told:
        tiny_learning(strategy__name="rals", **fields)
    assert "\n" not in str(told.value)


def test_parts_matter_only_to_methods_of_whole_batches():
    config = tiny_config(strategy__name="rals")
    assert config.strategy.rals.part_size == 16  # 4 and 6 rows are no multiples
    tiny_learning(strategy__name="rals")


def test_its_state_between_batches_is_the_memory_alone():
    w = world()
    structure = jax.tree.structure(w.memory)
    begun, _ = w.begin(w.memory, w.stream)
    after, _ = w.part.end(jax.random.key(0), begun, w.now, w.stream, None)
    assert jax.tree.structure(after) == structure
    assert retrieval.highest(jnp.zeros(3), 1).shape == (1,)
