"""Counters beyond 2^31: bounded, staying at the largest number, or free to wrap."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import method_of, stream, tiny_config, tiny_learning

from ocssl_jax.memory.centroids_state import Centroids, plus
from ocssl_jax.memory.reservoir import exponential
from ocssl_jax.methods import METHODS
from ocssl_jax.optim import OPTIMIZERS
from ocssl_jax.strategies import STRATEGIES

MOST = 2**31 - 1
BATCHES = list(stream(8, short=False))
LABELLED = next(stream(1, labelled=True))

# Every integer of every state, by the last part of its name, and why it is safe.
SAFE = {
    "step": "wraps: only its 32 bits are used, to draw the key of a stream batch",
    "id": "bounded: a position in the data set",
    "image": "bounded: pixels",
    "generator_image": "bounded: pixels",
    "rank": "bounded: counted back from the newest item, so at most the capacity",
    "place": "bounded: a place in the store, or in the order of choice",
    "label": "bounded by the classes",
    "task": "bounded by the experiences",
    "epoch": "bounded by the stream's epochs",
    # Of Adam it stays at its largest.
    "count": "bounded by the images of a centroid, or by the tasks of a network",
    "next": "bounded: a place in the window",
    "size": "bounded by the width of the window",
    "matches": "stays at its largest number",
    "age": "stays at its largest number",
    "cycle": "stays at its largest number",
    "arrival": "a cycle",
}


def integers(**fields) -> set[str]:
    """Names of the integers in the state of a learner."""
    learning = tiny_learning(**fields)
    first = LABELLED if learning.method.head else BATCHES[0]
    state = jax.eval_shape(learning.init, jax.random.key(0), first)
    return {
        jax.tree_util.keystr(path, simple=True, separator=".").split(".")[-1]
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if jnp.issubdtype(leaf.dtype, jnp.integer)
    }


def test_every_integer_of_every_state_is_known_to_be_safe():
    found = set().union(
        *(integers(strategy__name=s, method__name=method_of(s)) for s in STRATEGIES),
        *(integers(strategy__name="none", method__name=m) for m in METHODS),
        *(integers(strategy__name="none", optimizer__name=o) for o in OPTIMIZERS),
    )
    assert found == SAFE.keys()


def test_plus_stays_at_the_largest_number():
    counts = jnp.asarray([0, -1, 5, MOST - 1, MOST], jnp.int32)
    assert plus(counts, 1).tolist() == [1, 0, 6, MOST, MOST]
    assert plus(counts, counts.clip(0)).tolist() == [0, -1, 10, MOST, MOST]


def learnt(state, learning, batches):
    step, seen = jax.jit(learning.step), []
    for batch in batches:
        state, metrics = step(state, batch)
        seen.append(jax.device_get(metrics))
    return state, seen


def test_steps_beyond_2_to_the_31_have_keys_of_their_own():
    learning = tiny_learning(strategy__name="none", optimizer__name="adam", passes=1)
    state = jax.jit(learning.init)(jax.random.key(0), BATCHES[0])
    late = replace(
        state,
        step=jnp.int32(MOST - 1),
        opt_state=jax.tree.map(
            lambda x: jnp.full_like(x, MOST - 1) if x.dtype == jnp.int32 else x,
            state.opt_state,
        ),
    )
    # The same batch with the same weights: only the key tells the steps apart.
    frozen = []
    for step in (MOST - 1, MOST, -(2**31), -(2**31) + 1, 0):
        one = replace(late, step=jnp.int32(step))
        frozen.append(float(learnt(one, learning, BATCHES[:1])[1][0]["loss"]))
    assert len(set(frozen)) == 5
    final, seen = learnt(late, learning, BATCHES[:4])
    assert int(final.step) == -(2**31) + 2
    assert all(np.isfinite(m["loss"]) for m in seen)
    counts = [x for x in jax.tree.leaves(final.opt_state) if x.dtype == jnp.int32]
    assert counts and all(int(x) == MOST for x in counts)


@pytest.mark.slow
def test_climb_goes_on_with_its_counters_at_the_limit():
    learning = tiny_learning(strategy__name="climb", strategy__memory_size=14, passes=1)
    state = jax.jit(learning.init)(jax.random.key(0), BATCHES[0])
    state, _ = learnt(state, learning, BATCHES)

    def raised(memory):
        table = memory.table
        up = lambda x: jnp.where(x > 0, MOST - 2, x)
        table = replace(table, matches=up(table.matches), age=up(table.age))
        return replace(
            memory,
            table=table,
            cycle=jnp.int32(MOST - 1),
            arrival=jnp.where(memory.arrival > 0, MOST - 1, 0),
        )

    is_memory = lambda x: isinstance(x, Centroids)
    lift = lambda x: raised(x) if is_memory(x) else x
    late = state.replace(strategy=jax.tree.map(lift, state.strategy, is_leaf=is_memory))
    final, seen = learnt(late, learning, BATCHES * 2)
    leaves = jax.tree.leaves(final.strategy, is_leaf=is_memory)
    memory = next(x for x in leaves if is_memory(x))
    assert int(memory.table.matches.min()) >= -1  # PROMOTED
    assert int(memory.table.age.min()) >= 0 and int(memory.arrival.min()) >= 0
    assert int(memory.cycle) == MOST
    assert all(np.isfinite(m["loss"]) for m in seen)
    assert all(0 <= m["memory_images"] <= 16 for m in seen)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["cla_r", "minred", "scale"])
def test_ranks_of_arrival_never_leave_the_capacity(strategy):
    """So whatever the samples so far, the next batch finds the same small numbers."""
    learning = tiny_learning(strategy__name=strategy, passes=1)
    state = jax.jit(learning.init)(jax.random.key(0), BATCHES[0])
    capacity = tiny_config().strategy.memory_size
    step = jax.jit(learning.step)
    for batch in BATCHES * 3:
        state, _ = step(state, batch)
        ranks = [
            np.asarray(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(state.strategy)
            if jax.tree_util.keystr(path).endswith("rank")
        ]
        assert ranks and all(r.dtype == np.int32 for r in ranks)
        for rank in ranks:
            held = rank[rank > np.iinfo(np.int32).min]
            assert len(set(held)) == len(held)
            assert -capacity < held.min() and held.max() == 0
    assert len(held) == capacity


def test_a_reservoir_tells_its_survivors_apart_after_2_to_the_32_samples(monkeypatch):
    """What stays of 2^32 items has the smallest variates: these must not tie."""
    n, capacity = 2**32, 2500
    rng = np.random.default_rng(0)
    # The order statistics of n uniforms: sums of exponentials over n.
    smallest = np.cumsum(rng.exponential(size=capacity)) / n
    coarse = np.floor(smallest * 2**23) / 2**23
    fine = np.floor((smallest - coarse) * 2**46) / 2**23
    grid = jnp.asarray(np.stack([coarse, fine]), jnp.float32)
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: grid)
    drawn = np.asarray(exponential(jax.random.key(0), (capacity,)))
    np.testing.assert_allclose(drawn, smallest, rtol=1e-3, atol=2.0**-45)
    assert len(np.unique(drawn)) > 0.999 * capacity
