"""LUMP: which rows are mixed, with what share, and when."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_method import install, linear
from tiny import BATCH, SHAPE, stream, tiny_config, tiny_learning

from ocssl_jax.backbones.mlp import Mlp
from ocssl_jax.core import Learner, Outputs, Stream
from ocssl_jax.errors import UsageError
from ocssl_jax.memory.base import Ranked
from ocssl_jax.strategies.lump import lump, mixture

ALPHA, CAPACITY = 0.4, 12
METHOD = linear(Mlp(5, jnp.float32), projection=3, dtype=jnp.float32)
PIXELS = SHAPE[0] * SHAPE[1]
KEY = jax.random.key(0)


def strategy(alpha=ALPHA, memory="fifo"):
    return lump(
        batch_size=BATCH,
        memory=memory,
        memory_size=CAPACITY,
        feature_decay=0.5,
        alpha=alpha,
    )


def arrival(t, real=BATCH):
    """Row i of batch t is black but for one pixel of its own, number b t + i."""
    own = t * BATCH + np.arange(BATCH)
    image = 200 * np.eye(PIXELS, dtype=np.uint8)[own].reshape(BATCH, *SHAPE)
    ids, mask = jnp.asarray(own, jnp.int32), jnp.arange(BATCH) < real
    return Stream(jnp.asarray(image), ids, mask, jnp.asarray(False))


def twice(key, images):
    """Two views, both the image itself."""
    del key
    return jnp.stack([images, images]).astype(jnp.float32)


def once(key, images):
    return twice(key, images)[:1]


def held(part, batches):
    """The strategy's state after `batches`."""
    params, model = METHOD.init(KEY, jnp.zeros((1, *SHAPE)))
    learner = Learner(params, model, METHOD, lambda x: x.astype(jnp.float32))
    _, state = part.init(KEY, learner, arrival(0))
    out = Outputs(None, jnp.zeros((2, BATCH, 5)), jnp.ones((2, BATCH, 3)), {})
    for t, batch in enumerate(batches):
        key = jax.random.fold_in(KEY, t)
        state, _ = part.end(key, state, learner, batch, out)
    return state


def brightness(views):
    """How much of every pixel's row is in each mixed row: [v n pixels]."""
    return np.asarray(views).reshape(*views.shape[:2], PIXELS) / 200


@pytest.mark.parametrize("augment", [once, twice])
@pytest.mark.parametrize("memory", ["fifo", "reservoir"])
def test_rows_are_mixed_with_distinct_ones_of_the_memory_by_one_share(augment, memory):
    part = strategy(memory=memory)
    state = held(part, [arrival(0), arrival(1)])
    for seed in range(5):
        batch = part.draw(jax.random.key(seed), state, None, arrival(2), augment)
        seen = brightness(batch.views)
        assert seen.shape[:2] == (len(augment(None, jnp.zeros(1))), BATCH)
        np.testing.assert_array_equal(seen, np.broadcast_to(seen[0], seen.shape))
        own = np.arange(2 * BATCH, 3 * BATCH)
        share = seen[0, np.arange(BATCH), own]
        np.testing.assert_allclose(share, share[0], rtol=1e-6)
        old = seen[0, :, : 2 * BATCH]  # the memory's part
        partner = old.argmax(axis=1)
        assert len(set(partner)) == BATCH
        expected = np.zeros_like(seen[0])
        expected[np.arange(BATCH), own] = share[0]
        expected[np.arange(BATCH), partner] = 1 - share[0]
        np.testing.assert_allclose(seen[0], expected, atol=1e-6)
        np.testing.assert_array_equal(batch.items["id"], own)
        assert batch.mask.all()


@pytest.mark.parametrize("alpha", [ALPHA, 2.0])
def test_the_share_follows_its_beta_distribution(alpha):
    part = strategy(alpha)
    state, draws = held(part, [arrival(0), arrival(1)]), 4000

    @jax.jit
    @jax.vmap
    def share(key):
        views = part.draw(key, state, None, arrival(2), twice).views
        return views.reshape(2, BATCH, PIXELS)[0, 0, 2 * BATCH] / 200

    seen = np.asarray(share(jax.random.split(KEY, draws)))
    variance = 1 / (4 * (2 * alpha + 1))  # of Beta(alpha, alpha), about a half
    assert np.all((seen >= 0) & (seen <= 1 + 1e-6))
    np.testing.assert_allclose(seen.mean(), 0.5, atol=5 * (variance / draws) ** 0.5)
    np.testing.assert_allclose(seen.var(), variance, rtol=0.06)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_of_one_is_the_stream_and_of_zero_the_memory(monkeypatch, share):
    part = strategy()
    state = held(part, [arrival(0), arrival(1)])
    monkeypatch.setattr(jax.random, "beta", lambda key, a, b: jnp.float32(share))
    seen = brightness(part.draw(KEY, state, None, arrival(2), twice).views)
    assert np.all((seen == 0) | (seen == 1)) and np.all(seen.sum(axis=-1) == 1)
    assert np.all((seen.argmax(axis=-1) >= 2 * BATCH) == (share == 1))


@pytest.mark.parametrize(
    ("batches", "mixed"),
    [
        ([], False),
        ([arrival(0)], False),  # b rows are not more than b
        ([arrival(0, real=2), arrival(1, real=2)], False),
        ([arrival(0), arrival(1, real=1)], True),
    ],
)
def test_rows_are_mixed_once_more_than_a_batch_is_held(batches, mixed):
    part, now = strategy(), arrival(3, real=3)
    batch = part.draw(KEY, held(part, batches), None, now, twice)
    plain = np.asarray(twice(None, now.image))
    assert np.array_equal(batch.views, plain) != mixed
    # Masked rows stay masked, and no other row is.
    np.testing.assert_array_equal(batch.mask, now.mask)
    assert batch.replayed == 0 and batch.slot is None


def test_mixture_is_linear_row_by_row():
    new, old = jax.random.normal(KEY, (2, 2, 3, *SHAPE))
    share = jnp.array([0.0, 1.0, 0.25])
    seen = np.asarray(mixture(share, new, old))
    np.testing.assert_array_equal(seen[:, 0], old[:, 0])
    np.testing.assert_array_equal(seen[:, 1], new[:, 1])
    rest = 0.25 * np.asarray(new[:, 2]) + 0.75 * np.asarray(old[:, 2])
    np.testing.assert_allclose(seen[:, 2], rest, rtol=1e-6, atol=1e-7)


def test_a_pass_trains_on_b_rows_and_every_stream_image_is_kept(monkeypatch):
    install(monkeypatch)
    learning = tiny_learning(
        method__name="linear", strategy__name="lump", strategy__lump__memory="fifo"
    )
    batches = list(stream(5))
    state, step = learning.init(KEY, batches[0]), jax.jit(learning.step)
    for batch in batches:
        state, metrics = step(state, batch)
        assert int(metrics["rows"]) == int(batch.mask.sum())
        assert set(metrics) >= {"loss_ssl", "memory_images"}
    memory = state.strategy
    assert isinstance(memory, Ranked)
    seen = np.concatenate([np.asarray(b.id)[np.asarray(b.mask)] for b in batches])
    kept = np.asarray(memory.items["id"])[: len(seen)]
    assert set(kept) == set(seen) and int(metrics["memory_images"]) == len(seen)


def test_what_is_stored_with_an_image_is_never_refreshed():
    part = strategy()
    state = held(part, [arrival(0), arrival(1)])
    batch = part.draw(KEY, state, None, arrival(2), twice)
    out = Outputs(None, jnp.ones((2, BATCH, 5)), 7 * jnp.ones((2, BATCH, 3)), {})
    assert part.update(state, None, batch, out) is state
    np.testing.assert_array_equal(state.feature[: 2 * BATCH], 1.0)


def test_a_memory_that_could_never_be_mixed_is_refused():
    fields = {"strategy__replay_size": 2, "strategy__memory_size": BATCH}
    with pytest.raises(UsageError, match=f"above the stream's batch_size {BATCH}"):
        tiny_learning(strategy__name="lump", **fields)
    with pytest.raises(UsageError, match=r"strategy\.lump\.alpha must be above 0"):
        tiny_config(strategy__name="lump", strategy__lump__alpha=0.0)
