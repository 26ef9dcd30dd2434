"""CLIMB's memory against the plain-Python oracle, image by image."""

import jax
import numpy as np
import pytest
from centroid_world import FIDELITY, World, encode, stream, weights
from marks import slow
from oracle_centroids import Oracle


def compare(state, oracle, context):
    t, m = state.table, state.table.place.shape[1]
    ids = np.asarray(state.items["id"])
    images = np.asarray(state.items["image"])
    arrival, place = np.asarray(state.arrival), np.asarray(t.place)
    assert int(state.cycle) == oracle.cycle, context
    for row, c in enumerate(oracle.stm + oracle.ltm):
        where = f"{context}, row {row}"
        count = int(t.count[row])
        assert count == (len(c["items"]) if c else 0), where
        assert count <= m
        if not c:
            continue
        held = place[row, :count]
        assert ids[held].tolist() == [x["id"] for x in c["items"]], where
        assert arrival[held].tolist() == [x["cycle"] for x in c["items"]], where
        for p, x in zip(held, c["items"], strict=True):
            np.testing.assert_array_equal(images[p], x["image"], where)
        assert int(t.matches[row]) == c["matches"], where
        if row < t.stm:
            assert int(t.age[row]) == c["age"], where
        np.testing.assert_allclose(t.embedding[row], c["z"], 1e-4, 1e-5, err_msg=where)
    window = np.asarray(state.window.value)[: int(state.window.size)]
    pushed = np.nan_to_num(oracle.window, nan=np.inf)  # the ring has no NaN
    same = np.sort(window), np.sort(pushed)
    np.testing.assert_allclose(*same, 1e-3, 2e-6, err_msg=context)
    np.testing.assert_allclose(
        state.window.threshold, oracle.threshold, 1e-3, 2e-6, err_msg=context
    )


def step_beside(world, images, *, batch, mask=None):
    """Runs both through `images`, comparing after every add and every refresh."""
    oracle, state = Oracle(world.settings), world.empty
    for i in range(0, len(images), batch):
        x, names = images[i : i + batch], np.arange(i, i + batch, dtype=np.int32)
        live = np.ones(batch, bool) if mask is None else mask[i : i + batch]
        w = weights(i)
        key, k_add, k_sample = jax.random.split(jax.random.key(i), 3)

        def embed(image, w=w):
            return np.asarray(encode(w, image[None]))[0].astype(np.float64)

        state = world.add(k_add, state, x, names, live, w)
        draws = world.draws(k_add, batch)
        for r in range(batch):
            if live[r]:
                oracle.observe(x[r], int(names[r]), embed(x[r]), draws[r], embed)
        oracle.end_batch(embed)
        compare(state, oracle, f"after image {i + batch - 1}")

        drawn = world.sample(k_sample, state, 8)
        features = np.asarray(encode(w, drawn.items["image"]))
        state = world.refresh(state, drawn.slot, features, drawn.mask)
        real = np.asarray(drawn.mask)
        oracle.refresh(np.asarray(drawn.slot)[real], features[real])
        compare(state, oracle, f"refresh after image {i + batch - 1}")
        del key
    return oracle


@pytest.mark.parametrize("fidelity", ["paper", *slow("reference")])
def test_every_image(fidelity):
    world = World(**FIDELITY[fidelity])
    runs = [step_beside(world, stream(160, seed), batch=1) for seed in (0, 1)]
    happened = {event for oracle in runs for event in oracle.events}
    wanted = {"fill", "evict", "match stm", "promote", "merge", "consolidate", "frozen"}
    wanted |= {"replace", "refuse"} if fidelity == "paper" else {"drop"}
    assert happened >= wanted


@pytest.mark.parametrize(
    "rule",
    [
        "oldest",
        "similar",
        "balanced_time",
        "reservoir",
        pytest.param("reservoir_oldest", marks=pytest.mark.slow),
        pytest.param("reservoir_similar", marks=pytest.mark.slow),
        pytest.param("reservoir_balanced_time", marks=pytest.mark.slow),
        "none",
    ],
)
def test_replacement_rules(rule):
    world = World(ltm_replace=rule, window=30)
    oracle = step_beside(world, stream(70), batch=1)
    assert ("refuse" if rule == "none" else "replace") in oracle.events


@pytest.mark.parametrize("kind", ["trim", "reset_stm"])
def test_other_consolidations(kind):
    world = World(consolidation=kind, merge_select="balanced")
    oracle = step_beside(world, stream(160), batch=1)
    assert {kind, "merge"} <= set(oracle.events)


def test_batches_with_masked_rows():
    images = stream(160, seed=3)
    mask = np.random.default_rng(0).random(160) < 0.7
    oracle = step_beside(World(merge_select="balanced"), images, batch=4, mask=mask)
    assert {"promote", "merge", "consolidate"} <= set(oracle.events)
