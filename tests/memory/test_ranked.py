"""Reservoir and FIFO: the items of highest rank, against the whole history."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ocssl_jax.memory.base import Rank, ranked
from ocssl_jax.memory.fifo import EMPTY, fifo
from ocssl_jax.memory.reservoir import draw_rank, exponential, reservoir


def rows(names):
    names = np.asarray(names, np.int32)
    image = np.broadcast_to(names[:, None, None, None] % 256, (len(names), 2, 2, 1))
    items = {"image": image.astype(np.uint8), "id": names}
    return items, np.float32(names[:, None] * [1.0, -1.0])


def empty(memory):
    items, feature = rows([0])
    return memory.init(jax.tree.map(lambda x: x[0], items), feature[0])


def put(memory, state, names, *, mask=None, key=0):
    mask = np.ones(len(names), bool) if mask is None else np.asarray(mask)
    items, feature = rows(names)
    k = jax.random.key(key)
    return memory.add(k, state, items, feature, mask, embed=None)


def held(memory, state):
    items, valid = memory.rows(state)
    np.testing.assert_array_equal(items["image"][:, 0, 0, 0], items["id"] % 256)
    feature = np.asarray(state.feature)[valid]
    names = np.asarray(items["id"])[valid]
    np.testing.assert_array_equal(feature, names[:, None] * [1.0, -1.0])
    return sorted(names.tolist())


@pytest.mark.parametrize("batch", [1, 3, 11])  # 11 newcomers exceed the 7 slots
def test_reservoir_is_the_top_of_the_history(batch):
    memory, history = reservoir(7, feature_decay=0.5), []
    state, rng = empty(memory), np.random.default_rng(0)
    for i in range(30):
        names = np.arange(i * batch, (i + 1) * batch)
        mask = rng.random(batch) < 0.7
        rank = draw_rank(jax.random.key(i), state.rank, jnp.asarray(mask))[1]
        history += [(float(rank[r]), names[r]) for r in range(batch) if mask[r]]
        state = put(memory, state, names, mask=mask, key=i)
        best = sorted(history, reverse=True)[:7]
        assert held(memory, state) == sorted(name for _, name in best)


@pytest.mark.parametrize("batch", [1, 3, 11])
def test_fifo_is_the_newest(batch):
    memory, history = fifo(7, feature_decay=0.5), []
    state, rng = empty(memory), np.random.default_rng(0)
    for i in range(30):
        names = np.arange(i * batch, (i + 1) * batch)
        mask = rng.random(batch) < 0.7
        history += names[mask].tolist()
        state = put(memory, state, names, mask=mask)
        assert held(memory, state) == history[-7:]
        # Nothing in the state counts the stream: no stream is too long for an int32.
        stored = sorted(r for r in np.asarray(state.rank).tolist() if r != EMPTY)
        assert stored == list(range(1 - min(7, len(history)), 1))


def test_fifo_forgets_how_long_the_stream_was():
    memory = fifo(4, feature_decay=0.5)
    short = put(memory, empty(memory), [7, 8, 9, 10])
    long = empty(memory)
    for start in range(0, 4000, 400):
        long = put(memory, long, np.arange(start, start + 400))
    long = put(memory, long, [7, 8, 9, 10])
    order = lambda s: np.asarray(s.items["id"])[np.argsort(s.rank)].tolist()
    assert order(short) == order(long) == [7, 8, 9, 10]
    np.testing.assert_array_equal(np.sort(short.rank), np.sort(long.rank))


def test_any_rank_will_do():
    def arrive(key, rank, mask):
        del key
        return rank, jnp.where(mask, jnp.asarray([5, 1, 9], jnp.int32), -1)

    memory = ranked(2, rank=Rank(-1, arrive), feature_decay=0.5)
    state = put(memory, empty(memory), [0, 1, 2])
    assert held(memory, state) == [0, 2]
    state = put(memory, state, [10, 11, 12], mask=[True, True, False])
    assert held(memory, state) == [0, 2]  # equal ranks keep what is stored


def test_reservoir_keeps_every_item_equally_often():
    memory, runs, seen, slots = reservoir(5, feature_decay=0.5), 6000, 20, 5
    names = np.append(np.arange(seen), -1).reshape(7, 3)  # the last row is padding

    def run(key):
        def step(state, x):
            items = {"id": x, "image": jnp.zeros((3, 1, 1, 1), jnp.uint8)}
            k, feature = jax.random.fold_in(key, x[0]), jnp.zeros((3, 1))
            return memory.add(k, state, items, feature, x >= 0, embed=None), ()

        item = {"id": jnp.int32(0), "image": jnp.zeros((1, 1, 1), jnp.uint8)}
        state = memory.init(item, jnp.zeros(1))
        return jax.lax.scan(step, state, jnp.asarray(names, jnp.int32))[0].items["id"]

    kept = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), runs))
    counts = np.bincount(np.asarray(kept).reshape(-1), minlength=seen)
    p = slots / seen
    # Sampling without replacement: this is chi-square with seen - 1 degrees of freedom.
    spread = np.sum((counts - runs * p) ** 2) / (runs * p * (1 - p))
    assert spread * (seen - 1) / seen < 50.8  # exceeded once in 10^4 fair keys


def test_exponentials_stay_distinct_near_zero():
    e = np.asarray(exponential(jax.random.key(0), (2**21,)))
    assert np.isfinite(e).all() and (e > 0).sum() > 2**21 - 2
    low = np.sort(e)[:2000]
    assert len(np.unique(low)) == 2000
    # With a single float32 uniform they would sit on the grid of 2^-23.
    off_grid = low * 2**23 % 1
    assert (np.minimum(off_grid, 1 - off_grid) > 1e-3).mean() > 0.9
    np.testing.assert_allclose([e.mean(), e.std()], 1, atol=5e-3)
    assert abs((e < 0.1).mean() - (1 - np.exp(-0.1))) < 1e-3


def test_refresh_is_an_average_of_real_rows_only():
    memory = fifo(4, feature_decay=0.5)
    state = put(memory, empty(memory), [1, 2, 3, 4])
    slot = jnp.asarray([2, 0, 2])
    first = state.feature
    f = np.random.default_rng(0).normal(size=(3, 3, 2)).astype(np.float32)
    for new in f:
        state = memory.refresh(state, slot, new, jnp.asarray([True, True, False]))
    # Three passes of CLA-R: 1/8 f0 + 1/8 f1 + 1/4 f2 + 1/2 f3.
    for row, s in [(0, 2), (1, 0)]:
        want = first[s] / 8 + f[0, row] / 8 + f[1, row] / 4 + f[2, row] / 2
        np.testing.assert_allclose(state.feature[s], want, rtol=1e-5)
    np.testing.assert_array_equal(state.feature[jnp.asarray([1, 3])], first[1::2])


def test_sample_is_uniform_and_padded_past_the_size():
    memory = fifo(6, feature_decay=0.5)
    state = put(memory, empty(memory), [1, 2, 3, 4])
    drawn = memory.sample(jax.random.key(0), state, 6)
    assert drawn.mask.tolist() == [True] * 4 + [False] * 2
    assert sorted(drawn.items["id"][:4].tolist()) == [1, 2, 3, 4]
    keys = jax.random.split(jax.random.key(1), 6000)
    ids = jax.vmap(lambda k: memory.sample(k, state, 2).items["id"])(keys)
    pairs = np.bincount(np.asarray(ids[:, 0] * 5 + ids[:, 1]), minlength=25)
    assert (pairs > 0).sum() == 12  # ordered pairs of distinct items
    spread = np.sum((pairs[pairs > 0] - 500) ** 2) / 500
    assert spread < 37.4  # chi-square, 11 degrees of freedom, once in 10^4


@pytest.mark.parametrize("make", [reservoir, fifo])
def test_settings_are_checked_at_the_door(make):
    with pytest.raises(ValueError, match="capacity must be at least 1"):
        make(0, feature_decay=0.5)
    with pytest.raises(ValueError, match=r"feature_decay must lie in \[0, 1\]"):
        make(3, feature_decay=1.5)
