"""CLIMB's memory: properties, draws, fidelity, door checks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from centroid_world import FIDELITY, STILL, World, encode, settings, stream, weights

from ocssl_jax.memory import centroids_consolidate
from ocssl_jax.memory.centroids_ltm import merge, most_similar
from ocssl_jax.memory.centroids_sample import at_once, in_turn, swapped
from ocssl_jax.memory.centroids_state import Settings, Table, sheet
from ocssl_jax.memory.centroids_stream import Arrival, Meeting, cosines, decide
from ocssl_jax.memory.centroids_window import (
    empty_window,
    exchanged,
    percentile_of,
    push,
)


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def full(world):
    """A state with every STM and LTM row in use."""
    *_, state = world.run(stream(120), batch=4)
    return state


def test_bounds_hold_after_every_batch():
    world = World(budget=13)
    s = world.settings
    for state in world.run(stream(160, seed=5), batch=4):
        count = np.asarray(state.table.count)
        assert count.max() <= s["images_per_centroid"]
        assert (count[s["stm"] :] > 0).sum() <= s["ltm"]
        assert world.memory.size(state) == count.sum() <= s["budget"]
    assert int(state.cycle) > 2


def test_alpha_zero_freezes_the_stm():
    # Without consolidation a centroid stays where its first image put it.
    world = World(alpha=0.0, budget=1000)
    *_, state = world.run(stream(60), batch=4, key=1)
    t, first = state.table, state.table.place[:4, 0]
    names = np.asarray(state.items["id"][first])
    for row, name in enumerate(names):
        w = weights(4 * (name // 4))
        z = encode(w, state.items["image"][first[row]][None])[0]
        np.testing.assert_allclose(t.embedding[row], z, rtol=1e-5)


def test_percentile_one_is_novel_only_at_a_record():
    world = World(percentile=1.0, window=200, budget=1000, batch_size=1)
    seen, novel = [], []
    for state in world.run(stream(120)):
        if int(state.window.size) > len(seen):
            seen.append(float(state.window.value[state.window.size - 1]))
            novel.append(bool(state.novelty))
    record = [x > max(seen[:i], default=0) for i, x in enumerate(seen)]
    fill = 3  # the first image has no distance, the three after it fill the STM
    assert novel == [True] * fill + record[fill:]
    assert 0 < sum(record[fill:]) < 15


def table(count, m=3, stm=2, seed=0):
    rng = np.random.default_rng(seed)
    c = len(count)
    return Table(
        embedding=jnp.asarray(rng.normal(size=(c, 5)), jnp.float32),
        place=jnp.arange(c * m, dtype=jnp.int32).reshape(c, m),
        count=jnp.asarray(count, jnp.int32),
        matches=jnp.arange(c, dtype=jnp.int32),
        age=jnp.zeros(stm, jnp.int32),
    )


@pytest.mark.parametrize("select", ["random", "balanced"])
@pytest.mark.parametrize("count", [[1, 1, 3, 3, 3], [1, 1, 2, 1, 1]])
def test_merging_conserves_the_mean(select, count):
    old = table(count)
    i, j = (2 + most_similar(old.embedding[2:])).tolist()
    nobody = jnp.full(2, len(count))
    nowhere = jnp.full(5, jnp.nan)  # where nobody has moved to
    run = jax.jit(jax.vmap(lambda u: merge(old, nobody, nowhere, u, select=select)))
    new, moved, rows = run(jax.random.uniform(jax.random.key(0), (1500, 6)))
    centre = (old.embedding[i] + old.embedding[j]) / 2
    assert moved[0].tolist() == [5, 5, i]
    np.testing.assert_allclose(rows[0, 2], centre, rtol=1e-5)
    assert new.count[0].tolist().count(0) == 1 and new.count[0, j] == 0
    total = min(3, count[i] + count[j])
    assert new.count[0, i] == total
    pool = [3 * r + n for r in (i, j) for n in range(count[r])]
    kept = np.asarray(new.place[:, i, :total])
    assert all(np.all(np.diff(k) > 0) for k in kept)  # distinct, in the pool's order
    names, times = np.unique(kept, return_counts=True)
    assert set(names) <= set(pool)
    if len(pool) == 6 and select == "random":
        spread = np.sum((times - 750) ** 2) / (1500 * 0.25) * 5 / 6
        assert spread < 25.8  # chi-square, 5 degrees of freedom, once in 10^4
    if len(pool) == 6 and select == "balanced":
        assert (np.sum(kept // 3 == i, axis=1) == 2).all()  # the odd one from row i


def test_a_centroid_merges_from_where_it_has_moved_to():
    old = table([1, 1, 3, 3, 3])
    place = -old.embedding[3]  # row 2 now lies opposite of row 3, and on row 4
    at = old.embedding.at[4].set(place * 1.01)
    old = Table(**(vars(old) | {"embedding": at}))
    uniform = jax.random.uniform(jax.random.key(0), (6,))
    new, moved, rows = merge(old, jnp.array([5, 2]), place, uniform, select="random")
    assert moved.tolist() == [5, 2, 2] and new.count.tolist() == [1, 1, 3, 3, 0]
    np.testing.assert_allclose(rows[2], place * 1.005, rtol=1e-5)


def test_replay_is_half_and_half_then_fills_up(world, full):
    border = 4 * 3
    count = full.table.count.at[:4].set(jnp.asarray([3, 1, 2, 3]))
    cases = {
        (3, 3, 3, 0): (4, 4),
        (1, 0, 0, 0): (1, 7),  # the LTM has one image: the STM fills up
    }
    for ltm, (n_long, n_short) in cases.items():
        t = Table(**(vars(full.table) | {"count": count.at[4:].set(jnp.array(ltm))}))
        state = full.replace(table=t)
        drawn = world.sample(jax.random.key(0), state, 8)
        half = (np.asarray(drawn.slot) >= border).tolist()
        assert half == [True] * n_long + [False] * n_short
        assert drawn.mask.all()
        np.testing.assert_array_equal(drawn.feature, t.embedding[drawn.slot // 3])
    count = count.at[:4].set(0).at[0].set(1).at[4:].set(jnp.asarray([3, 2, 0, 0]))
    state = full.replace(table=Table(**(vars(full.table) | {"count": count})))
    drawn = world.sample(jax.random.key(0), state, 8)
    assert drawn.mask.tolist() == [True] * 6 + [False] * 2
    assert sorted(drawn.slot[:6].tolist()) == [0, 12, 13, 14, 15, 16]


def test_replay_is_uniform_over_images_not_centroids(world, full):
    count = jnp.asarray([3, 1, 2, 3, 3, 1, 2, 0], jnp.int32)
    state = full.replace(table=Table(**(vars(full.table) | {"count": count})))
    keys, runs = jax.random.split(jax.random.key(2), 4000), 4000
    slots = jax.vmap(lambda k: world.memory.sample(k, state, 6).slot)(keys)
    times = np.bincount(np.asarray(slots).reshape(-1), minlength=24)
    for part, images in ((times[:12], 9), (times[12:], 6)):
        assert (part > 0).sum() == images
        p = 3 / images
        spread = np.sum((part[part > 0] - runs * p) ** 2) / (runs * p * (1 - p))
        assert spread * (images - 1) / images < 32  # 8 degrees: once in 10^4


def test_rows_of_one_centroid_move_it_in_turn(world, full):
    slot = jnp.asarray([12, 13, 13, 0, 12, 3, 14])
    mask = jnp.asarray([True, True, True, True, True, False, True])
    z = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    new = world.refresh(full, slot, z, mask)
    want = np.asarray(full.table.embedding, np.float64)
    for s, x, live in zip(slot.tolist(), z, mask.tolist(), strict=True):
        a = 0.5 / int(full.table.count[s // 3])
        want[s // 3] = (1 - a) * want[s // 3] + a * x if live else want[s // 3]
    np.testing.assert_allclose(new.table.embedding, want, rtol=1e-4, atol=1e-6)
    frozen = World(refresh_centroids=False).memory.refresh(full, slot, z, mask)
    assert frozen is full


def test_accelerators_move_centroids_at_once_to_the_same_places():
    rng = np.random.default_rng(1)
    embedding, z = rng.normal(size=(6, 5)), rng.normal(size=(40, 5))
    row = rng.integers(0, 7, 40)  # 6 is nobody
    rate = rng.uniform(0, 1, 6)
    args = [jnp.asarray(x, jnp.float32) for x in (embedding, rate, z)]
    places = [move(args[0], jnp.asarray(row), *args[1:]) for move in (in_turn, at_once)]
    np.testing.assert_allclose(*places, rtol=1e-4, atol=1e-6)


def test_reference_swaps_halves():
    slot, mask = jnp.asarray([20, 21, 22, 1, 2, 0]), jnp.arange(6) < 5
    assert swapped(slot, mask, 12)[:5].tolist() == [1, 2, 20, 21, 22]
    holes = jnp.asarray([True, False, True, True, False, False])
    got = swapped(slot, holes, 12)
    assert got[holes].tolist() == [1, 20, 22]


def test_consolidation_encodes_in_chunks(monkeypatch):
    images = stream(100, seed=4)
    *_, whole = World(budget=13).run(images, batch=4)
    monkeypatch.setattr(centroids_consolidate, "CHUNK", 4)
    *_, parts = World(budget=13).run(images, batch=4)
    assert int(whole.cycle) == int(parts.cycle) > 1
    np.testing.assert_allclose(
        whole.table.embedding, parts.table.embedding, rtol=1e-4, atol=1e-6
    )


def test_seeds_pay_for_consolidation_only_when_due():
    world = World(budget=13)
    calls = []

    def add(key, state, image):
        def embed(x):
            jax.debug.callback(lambda _: calls.append(1), x[0, 0, 0, 0])
            return encode(STILL, x)

        items = {"image": image, "id": jnp.arange(4)}
        mask, z = jnp.ones(4, bool), encode(STILL, image)
        return world.memory.add(key, state, items, z, mask, embed=embed)

    run = jax.jit(jax.vmap(add))
    state = jax.tree.map(lambda x: jnp.stack([x, x]), world.empty)
    images = np.stack([stream(100, seed=0), stream(100, seed=1)])
    for i in range(25):
        keys = jax.random.split(jax.random.key(i), 2)
        before = int(state.cycle.sum())
        state = run(keys, state, images[:, 4 * i : 4 * i + 4])
        jax.effects_barrier()
        assert bool(calls) == (int(state.cycle.sum()) > before)
        calls.clear()
    assert int(state.cycle.min()) > 1


def test_the_window_stays_in_order():
    rng = np.random.default_rng(0)
    held = rng.integers(0, 6, 12).astype(np.float32)  # many equal ones
    held[9:] = np.inf
    for _ in range(200):
        i, new = rng.integers(12), rng.choice([*range(-1, 7), np.inf])
        got = exchanged(jnp.sort(held), held[i], jnp.float32(new))
        held[i] = new
        np.testing.assert_array_equal(got, np.sort(held))


def test_percentile_is_numpys():
    x = np.random.default_rng(0).normal(size=50).astype(np.float32)
    for n in (1, 2, 20, 21, 50):
        ring = np.append(x[:n], np.full(50 - n, np.inf)).astype(np.float32)
        for p in (0.0, 0.5, 0.95, 1.0):
            got = percentile_of(jnp.sort(jnp.asarray(ring)), jnp.int32(n), p)
            np.testing.assert_allclose(got, np.quantile(x[:n], p), rtol=1e-4, atol=1e-6)
    window = empty_window(8)
    assert window.threshold == jnp.inf
    for i in range(20):
        window = push(window, jnp.float32(i), i % 5 != 4, repeats=3, percentile=0.0)
    assert sorted(window.value.tolist()) == [16, 16, 17, 17, 17, 18, 18, 18]
    assert window.threshold == 16


def test_reference_stores_nothing_for_96_images_after_the_fill():
    # 100 filling images push 1000 NaNs; 0.95 * 999 = 949.05 needs 951 real distances,
    # and each image pushes ten.
    small = dict(stm=100, window=1000, percentile=0.95, budget=400, batch_size=2)
    world = World(**(small | FIDELITY["reference"]))
    sizes, thresholds = [], []
    for state in world.run(stream(220), batch=2):
        sizes.append(int(world.memory.size(state)))
        thresholds.append(bool(jnp.isnan(state.window.threshold)))
    assert sizes[:50] == list(range(2, 102, 2))
    assert set(sizes[50:98]) == {100} and sizes[-1] > 100
    assert thresholds == [True] * 97 + [False] * 13


@pytest.mark.parametrize(
    ("promoted", "row", "moves"),
    [
        ((0, 2), 1, {"paper": True, "reference": False}),
        ((1,), 1, {"paper": False, "reference": True}),
        ((), 1, {"paper": True, "reference": True}),
    ],
)
def test_first_row_decides_for_all_in_the_reference(full, promoted, row, moves):
    matches = jnp.asarray([-1 if r in promoted else 1 for r in range(8)], jnp.int32)
    t = Table(**(vars(full.table) | {"matches": matches}))
    z = 1.5 * t.embedding[row]
    for name, expected in moves.items():
        freeze = FIDELITY[name]["freeze_with_first_row"]
        s = Settings(**settings(freeze_with_first_row=freeze))
        image = Arrival(jnp.int32(0), z, jnp.int32(0), jnp.bool(True), None)
        window = empty_window(4).replace(threshold=jnp.float32(0.1))
        met = Meeting(t, window, cosines(t.embedding, z[None]))
        event, distance = decide(s, met, image)
        assert abs(distance) < 1e-5 and not event.novel
        assert bool(event.moves) == expected
        assert event.row == (row if expected else s.centroids)


def test_sheet_shows_the_long_term_memory_first(full):
    cards = sheet(full)
    halves = [c.half for c in cards]
    assert halves == ["ltm"] * 3 + ["stm"] * 4
    counts = np.asarray(full.table.count)
    assert [c.images for c in cards] == [n for n in [*counts[4:], *counts[:4]] if n]
    images = stream(120)
    for c in cards:
        assert len(c.items["image"]) == c.images
        np.testing.assert_array_equal(c.items["image"], images[c.items["id"]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": 12}, "budget=12 is too small"),
        ({"stm": 0}, "stm must be at least 1"),
        ({"percentile": 95}, r"percentile must lie in \[0, 1\]"),
        ({"ratio_ltm": -0.1}, "ratio_ltm must lie in"),
        ({"window_repeats": 41}, r"window_repeats must lie in 1\.\.window=40"),
        ({"ltm_replace": "newest"}, "ltm_replace must be one of random, oldest"),
        ({"merge_select": "gradient"}, "merge_select must be one of random, balanced"),
        ({"consolidation": "reset"}, "consolidation must be one of consolidate"),
    ],
)
def test_settings_are_checked_at_the_door(change, message):
    with pytest.raises(ValueError, match=message):
        World(**change)


def test_a_larger_batch_is_refused(world):
    with pytest.raises(ValueError, match="at most batch_size=4 rows"):
        next(world.run(stream(5), batch=5))
