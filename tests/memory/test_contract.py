"""What every memory promises, whatever it keeps."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from centroid_world import SHAPE, STILL, encode, settings, stream

from ocssl_jax.memory import MEMORIES, plain

B, D, N = 4, 5, 16
MAKE = {
    "reservoir": lambda: MEMORIES["reservoir"](N, feature_decay=0.5),
    "fifo": lambda: MEMORIES["fifo"](N, feature_decay=0.5),
    "minred": lambda: MEMORIES["minred"](N, feature_decay=0.5),
    "part_and_select": lambda: MEMORIES["part_and_select"](N, feature_decay=0.5),
    "centroids": lambda: MEMORIES["centroids"](**settings(budget=13)),
}


def empty(memory):
    item = {"image": np.zeros(SHAPE, np.uint8), "id": np.int32(0), "label": np.int32(0)}
    return memory.init(item, np.zeros(D, np.float32))


def batch(i, images, live=None):
    """The i-th batch; padded rows carry the id -1, which no memory may return."""
    x = images[i * B : (i + 1) * B]
    mask = np.ones(B, bool) if live is None else live[i * B : (i + 1) * B]
    names = np.where(mask, np.arange(i * B, i * B + B) + 1, -1).astype(np.int32)
    return {"image": x, "id": names, "label": names % 7}, mask


def adder(memory):
    def add(key, state, items, mask, w):
        embed = lambda x: encode(w, x)
        feature = embed(items["image"])
        return memory.add(key, state, items, feature, mask, embed=embed)

    return add


def key(i, run=0):
    return jax.random.fold_in(jax.random.key(run), i)


@pytest.fixture(scope="module", params=list(MAKE))
def memory(request):
    return MAKE[request.param]()


def test_registry_is_tested():
    assert set(MAKE) == set(MEMORIES)


@pytest.mark.parametrize("name", ["centroids", "lifo"])
def test_a_memory_that_is_not_plain_is_refused_where_a_plain_one_is_needed(name):
    words = f"one of reservoir, fifo, minred, part_and_select, got '{name}'"
    with pytest.raises(ValueError, match=words):
        plain(name, N, feature_decay=0.5)


def test_filling_never_recompiles_never_pads_and_stays_in_shape(memory):
    chex.clear_trace_counter()
    add = jax.jit(chex.assert_max_traces(adder(memory), n=1), donate_argnums=1)
    draw = lambda k, state: memory.sample(k, state, 12)
    sample = jax.jit(chex.assert_max_traces(draw, n=1))
    move = lambda *args: memory.refresh(*args)
    refresh = jax.jit(chex.assert_max_traces(move, n=1), donate_argnums=0)
    images = stream(40 * B)
    live = np.random.default_rng(0).random(len(images)) < 0.8
    state = empty(memory)
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), state)
    for i in range(40):
        items, mask = batch(i, images, live)
        state = add(key(i), state, items, mask, STILL)
        assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == shapes

        drawn = jax.device_get(sample(key(i), state))
        held = int(memory.size(state))
        assert drawn.mask.tolist() == [True] * min(12, held) + [False] * (12 - held)
        slots = drawn.slot[drawn.mask]
        assert len(set(slots.tolist())) == len(slots)
        assert (drawn.items["id"][drawn.mask] > 0).all()
        for name in drawn.items["id"][drawn.mask]:
            assert name <= (i + 1) * B

        stored, valid = jax.device_get(memory.rows(state))
        assert valid.sum() == held
        assert valid[slots].all()
        for field, value in stored.items():
            np.testing.assert_array_equal(value[slots], drawn.items[field][drawn.mask])
        np.testing.assert_array_equal(
            stored["image"][valid], images[stored["id"][valid] - 1]
        )
        np.testing.assert_array_equal(stored["label"][valid], stored["id"][valid] % 7)
        state = refresh(state, drawn.slot, drawn.feature + 1.0, drawn.mask)
    assert all(np.ndim(v) == 0 for v in memory.metrics(state).values())
    assert int(memory.metrics(state)["memory_images"]) == memory.size(state)


def test_masked_batch_changes_nothing_that_counts(memory):
    add, images = jax.jit(adder(memory)), stream(8 * B)
    state = empty(memory)
    for i in range(7):
        state = add(key(i), state, *batch(i, images), STILL)
    after = add(key(7), state, *batch(7, images, np.zeros(8 * B, bool)), STILL)
    sample = jax.jit(memory.sample, static_argnums=2)
    chex.assert_trees_all_equal(sample(key(9), state, 8), sample(key(9), after, 8))
    chex.assert_trees_all_equal(memory.metrics(state), memory.metrics(after))


def test_resume_is_bit_equal(memory):
    add, images = jax.jit(adder(memory)), stream(24 * B)
    sample, refresh = jax.jit(memory.sample, static_argnums=2), jax.jit(memory.refresh)

    def run(state, batches):
        for i in batches:
            state = add(key(i), state, *batch(i, images), STILL)
            drawn = sample(key(i), state, 8)
            state = refresh(state, drawn.slot, drawn.feature, drawn.mask)
        return state

    straight = run(empty(memory), range(24))
    halfway = jax.device_get(run(empty(memory), range(11)))
    resumed = run(jax.device_put(halfway), range(11, 24))
    chex.assert_trees_all_equal(straight, resumed)


def test_seeds_together_equal_seeds_in_turn(memory):
    seeds, steps = 2, 16
    # The seeds see streams of different variety: they consolidate at different times.
    images = [stream(steps * B, seed=s, clusters=3 + 4 * s) for s in range(seeds)]
    add = adder(memory)
    alone, together = jax.jit(add), jax.jit(jax.vmap(add, in_axes=(0, 0, 0, 0, None)))
    stack = lambda trees: jax.tree.map(lambda *x: jnp.stack(x), *trees)
    states = [empty(memory)] * seeds
    stacked = stack(states)
    for i in range(steps):
        keys = [key(i, run=s) for s in range(seeds)]
        rows = [batch(i, x) for x in images]
        states = [
            alone(k, s, *r, STILL) for k, s, r in zip(keys, states, rows, strict=True)
        ]
        stacked = together(stack(keys), stacked, *stack(rows), STILL)
    for s in range(seeds):
        mine = jax.tree.map(lambda x, s=s: x[s], stacked)
        chex.assert_trees_all_close(mine, states[s], rtol=1e-5, atol=1e-6)


def test_no_silent_promotion(memory):
    w = jnp.asarray(STILL)
    items, mask = jax.device_put(batch(0, stream(B)))
    embed = lambda x: x.reshape(x.shape[0], -1).astype(jnp.float32) @ w
    feature = embed(items["image"])
    state, k = empty(memory), key(0)
    with (
        jax.numpy_rank_promotion("raise"),
        jax.numpy_dtype_promotion("strict"),
    ):

        def all_calls(state):
            state = memory.add(k, state, items, feature, mask, embed=embed)
            drawn = memory.sample(k, state, 4)
            state = memory.refresh(state, drawn.slot, drawn.feature, drawn.mask)
            return memory.metrics(state)

        jax.eval_shape(all_calls, state)


def test_more_rows_than_slots_is_refused(memory):
    with pytest.raises(ValueError, match="cannot draw 18 rows"):
        jax.eval_shape(lambda s: memory.sample(key(0), s, 18), empty(memory))
