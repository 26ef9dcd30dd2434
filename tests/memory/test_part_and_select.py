"""Part-and-Select against the greedy algorithm, one split at a time, in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ocssl_jax.memory.part_and_select import (
    CHUNK,
    encode,
    part,
    part_and_select,
    select,
)

M, D = 60, 6


def greedy(x, keep):
    """Clusters of `x` [m d] float32 as lists of rows: the paper's loop."""
    clusters = [np.arange(len(x))]
    while len(clusters) < keep:
        sides = [x[rows].max(axis=0) - x[rows].min(axis=0) for rows in clusters]
        widest = int(np.argmax([side.max() for side in sides]))
        axis = int(sides[widest].argmax())
        if sides[widest][axis] == 0:
            break  # nothing but equal points is left
        rows = clusters.pop(widest)
        value = x[rows, axis]
        left = value < value.min() + (value.max() - value.min()) / np.float32(2)
        clusters += [rows[left], rows[~left]]
    return clusters


def central(x, rows):
    """The member nearest to the centre of the box, the first of several."""
    box = x[rows].astype(np.float64)
    low, high = box.min(axis=0), box.max(axis=0)
    away = (((box - low) - (high - box)) ** 2).sum(axis=1)
    return rows[int(np.argmin(away))]


WORLDS = {
    "normal": lambda rng: rng.normal(size=(M, D)),
    "outliers, a deep tree": lambda rng: np.exp(3 * rng.normal(size=(M, D))),
    "clusters": lambda rng: (
        rng.normal(size=(5, D))[rng.integers(0, 5, M)] + 0.05 * rng.normal(size=(M, D))
    ),
    "a line": lambda rng: np.outer(rng.random(M), np.ones(D)) ** 4,
}
run = jax.jit(
    lambda x, valid, keep: (
        part(x, valid, keep),
        select(x, part(x, valid, keep)),
    ),
    static_argnums=2,
)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("keep", [1, 2, 17, 50, M])
def test_level_by_level_equals_greedy(world, keep):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        x = WORLDS[world](rng).astype(np.float32)
        valid = rng.random(M) < 0.9 if seed % 2 else np.ones(M, bool)
        rows = np.flatnonzero(valid)
        want = [rows[c] for c in greedy(x[rows], keep)]
        noise = np.where(valid[:, None], x, np.nan)  # rows that do not count
        cluster, chosen = jax.device_get(run(noise, valid, keep))
        got = [np.flatnonzero(cluster == c) for c in np.unique(cluster[valid])]
        assert sorted(map(tuple, got)) == sorted(map(tuple, want))
        assert (cluster[~valid] == M).all()
        assert np.flatnonzero(chosen).tolist() == sorted(central(x, c) for c in want)


def test_a_cluster_of_neighbouring_floats_is_split():
    # Halfway between them rounds to the lower one: `<` alone would never part them.
    x = np.float32([[1.0], [np.nextafter(np.float32(1), np.float32(2))], [5.0]])
    cluster = part(jnp.asarray(x), jnp.ones(3, bool), 3)
    assert sorted(cluster.tolist()) == [0, 1, 2]


def test_equal_and_infinite_points_end_the_splitting():
    x = jnp.asarray([[1.0, 2.0]] * 5 + [[3.0, 2.0]] * 2)
    cluster = part(x, jnp.ones(7, bool), 6)
    assert len(set(cluster[:5].tolist())) == len(set(cluster[5:].tolist())) == 1
    assert cluster[0] != cluster[6]
    assert np.flatnonzero(select(x, cluster)).tolist() == [0, 5]
    assert (part(x.at[0, 0].set(jnp.inf), jnp.ones(7, bool), 6) == 0).all()


def weights(t):
    """A drifting encoder of 2x2x1 images; whole numbers, so that it is exact."""
    rng = np.random.default_rng(0)
    still, drift = rng.normal(size=(2, 4, D))
    return np.float32(np.clip(1000 * (still + 0.05 * t * drift), -8191, 8191).round())


def embed_with(w, images):
    return images.reshape(len(images), -1).astype(jnp.float32) @ w


def items(names, images):
    return {"id": names, "image": images}


@pytest.mark.parametrize("varied", [True, False])
def test_the_memory_steps_beside_the_greedy_one(varied):
    capacity, batch = 20, 6
    memory = part_and_select(capacity, feature_decay=0.5)
    rng, held = np.random.default_rng(1), {}

    @jax.jit
    def add(state, rows, mask, w):
        feature = jnp.zeros((batch, 2))
        embed = lambda x: embed_with(w, x)
        return memory.add(None, state, rows, feature, mask, embed=embed)

    one = {"id": np.int32(0), "image": np.zeros((2, 2, 1), np.uint8)}
    state = memory.init(one, np.zeros(2, np.float32))
    for i in range(40):
        high = 256 if varied else 2  # 16 different images, fewer than there are slots
        images = rng.integers(0, high, (batch, 2, 2, 1)).astype(np.uint8)
        names = np.arange(i * batch, (i + 1) * batch, dtype=np.int32)
        mask = rng.random(batch) < 0.8
        before = np.asarray(memory.rows(state)[1])
        slots = [int(n) for n in np.asarray(state.items["id"])[before]]
        state = add(state, items(names, images), mask, weights(i))
        held |= dict(zip(names[mask].tolist(), images[mask], strict=True))
        order = [*slots, *names[mask].tolist()]  # stored ones first, by slot
        stored, valid = jax.device_get(memory.rows(state))
        got = sorted(stored["id"][valid].tolist())
        assert len(got) == min(len(order), capacity)
        if len(order) > capacity:
            x = np.asarray(embed_with(weights(i), np.stack([held[n] for n in order])))
            want = [order[central(x, c)] for c in greedy(x, capacity)]
            if varied:
                assert got == sorted(want)
            # Else every picture stays that is there, and others fill the slots.
            kept, needed = ({held[n].tobytes() for n in names} for names in (got, want))
            assert kept >= needed
        held = {n: held[n] for n in got}
        for n, image in zip(stored["id"][valid], stored["image"][valid], strict=True):
            np.testing.assert_array_equal(image, held[int(n)])


@pytest.mark.parametrize("n", [5, CHUNK, 2 * CHUNK + 7])
def test_chunks_encode_every_image_once_due(n):
    images = np.random.default_rng(n).integers(0, 256, (n, 2, 2, 1)).astype(np.uint8)
    embed = lambda x: embed_with(weights(0), x)
    z = encode(jnp.asarray(images), embed, jnp.zeros((1, D)), jnp.bool(True))
    np.testing.assert_array_equal(z, embed(images))
    idle = encode(jnp.asarray(images), embed, jnp.zeros((1, D)), jnp.bool(False))
    assert not idle.any()
