"""MinRed's memory: eviction against plain NumPy, pair by pair."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ocssl_jax.memory.minred import minred

N, B, D = 9, 4, 5
PAIRS = list(itertools.combinations(range(D), 2))
TWO_OF_FIVE = np.array([[i in pair for i in range(D)] for pair in [*PAIRS, ()]])


class Oracle:
    """A list in the order of arrival; float64."""

    def __init__(self, capacity):
        self.capacity, self.names, self.features = capacity, [], []

    def evict(self):
        x = np.array(self.features, np.float64)
        x /= np.sqrt((x**2).sum(axis=1, keepdims=True) + 1e-12)
        distance = 1 - x @ x.T
        np.fill_diagonal(distance, np.inf)
        # First index of the closest pair; equal features are equal within rounding.
        nearest = distance.min(axis=1)
        gone = int(np.flatnonzero(nearest <= nearest.min() + 1e-6)[0])
        del self.names[gone], self.features[gone]

    def add(self, names, features):
        for _ in range(max(0, len(self.names) + len(names) - self.capacity)):
            if self.names:
                self.evict()
        self.names += list(names)
        self.features += list(features)
        self.names = self.names[-self.capacity :]
        self.features = self.features[-self.capacity :]


def items(names):
    image = np.broadcast_to(names[:, None, None, None] % 256, (len(names), 2, 2, 1))
    return {"id": names, "image": image.astype(np.uint8)}


def empty(memory, width=D):
    item = jax.tree.map(lambda x: x[0], items(np.zeros(1, np.int32)))
    return memory.init(item, np.zeros(width, np.float32))


def in_order(memory, state):
    """Names held, from the oldest on, with their features."""
    stored, valid = jax.device_get(memory.rows(state))
    rank = np.asarray(state.rank)
    order = [i for i in np.argsort(rank, kind="stable") if valid[i]]
    assert rank[order].tolist() == list(range(1 - len(order), 1))
    names = stored["id"][order]
    np.testing.assert_array_equal(stored["image"][order][:, 0, 0, 0], names % 256)
    return names.tolist(), np.asarray(state.feature)[order]


@pytest.mark.parametrize("batch", [1, 4, 12])  # 12 newcomers exceed the 9 slots
@pytest.mark.parametrize("duplicates", [False, True])
def test_steps_beside_the_oracle(batch, duplicates):
    memory = minred(N, feature_decay=0.5)
    add, refresh = jax.jit(memory.add, static_argnames="embed"), jax.jit(memory.refresh)
    rng, oracle = np.random.default_rng(batch), Oracle(N)
    state, eldest_outlives = empty(memory), 0
    for i in range(400 if batch == 1 else 120):
        names = np.arange(i * batch, (i + 1) * batch, dtype=np.int32)
        features = rng.normal(size=(batch, D)).astype(np.float32)
        if duplicates:  # in direction, of any length, and zeros; ties are exact
            features = np.float32(TWO_OF_FIVE[rng.integers(0, 11, size=batch)])
            features *= 2.0 ** rng.integers(0, 3, size=(batch, 1))
        mask = rng.random(batch) < 0.8
        before = list(oracle.names)
        state = add(jax.random.key(i), state, items(names), features, mask, embed=None)
        oracle.add(names[mask], features[mask])
        held, stored = in_order(memory, state)
        assert held == oracle.names, f"after batch {i}"
        np.testing.assert_allclose(
            stored, np.reshape(oracle.features, (-1, D)), rtol=1e-5
        )
        eldest_outlives += bool(set(before) - set(held)) and before[0] in held

        if not duplicates:  # features move, as replay moves them
            drawn = memory.sample(jax.random.key(i), state, 3)
            new = rng.normal(size=(3, D)).astype(np.float32)
            state = refresh(state, drawn.slot, new, drawn.mask)
            for name, f, real in zip(drawn.items["id"], new, drawn.mask, strict=True):
                if real:
                    at = oracle.names.index(int(name))
                    oracle.features[at] = 0.5 * oracle.features[at] + 0.5 * f
    assert batch > N or eldest_outlives > 20  # it is no FIFO


def test_the_older_one_of_the_closest_pair_goes():
    memory = minred(4, feature_decay=0.5)
    f = np.float32([[1, 0, 0], [0, 1, 0.1], [0, 0, 1], [0, 1, 0]])
    names = np.arange(4, dtype=np.int32)
    state = memory.add(None, empty(memory, 3), items(names), f, f[:, 0] < 2, embed=None)
    # The newcomers equal each other and item 0: not asked, they cannot go.
    new = np.arange(4, 6, dtype=np.int32)
    twice = np.float32([[1, 0, 0]] * 2)
    state = memory.add(None, state, items(new), twice, np.ones(2, bool), embed=None)
    # First 1 (closest to 3), then of 0, 2, 3, all orthogonal, the eldest.
    assert in_order(memory, state)[0] == [2, 3, 4, 5]


def test_padded_rows_and_empty_slots_are_no_neighbours():
    memory = minred(4, feature_decay=0.5)
    key, mask = jax.random.key(0), np.array([True, True, False])
    f = np.float32([[1, 0], [0, 1], [np.nan, np.nan]])
    state = memory.add(
        key, empty(memory, 2), items(np.int32([1, 2, 9])), f, mask, embed=None
    )
    assert in_order(memory, state)[0] == [1, 2]
    f = np.float32([[1, 1], [1, -1], [np.nan, np.nan]])
    state = memory.add(key, state, items(np.int32([3, 4, 9])), f, mask, embed=None)
    assert in_order(memory, state)[0] == [1, 2, 3, 4]
    assert np.isfinite(state.feature).all()


def test_similarities_are_computed_once_a_batch():
    memory, f = minred(N, feature_decay=0.5), jnp.zeros((B, D))
    rows = jax.tree.map(jnp.asarray, items(np.zeros(B, np.int32)))
    add = lambda s: memory.add(None, s, rows, f, jnp.ones(B, bool), embed=None)
    before, loop = str(jax.make_jaxpr(add)(empty(memory))).split("while[")
    assert before.count("dot_general") == 1 and "dot_general" not in loop
