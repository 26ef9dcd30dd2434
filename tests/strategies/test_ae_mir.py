"""AE-MIR stepped beside a NumPy oracle: virtual step, search, choice, update."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hybrid_case import (
    RATE,
    R,
    batches,
    decode,
    drawn,
    encode,
    held,
    made,
    states,
    stepper,
)
from marks import slow
from perceptron import losses, run, slopes, weights
from tiny import BATCH

from ocssl_jax.autoencoder import signed, to_pixels
from ocssl_jax.errors import UsageError
from ocssl_jax.strategies.gains import shown

NUMBER = (
    11  # the last stream batch of the third experience: 16 codes are of earlier ones
)
STEP, GAIN = 50.0, {"interference": 3.0, "entropy": 0.7, "entropy_ahead": 0.4}
ALL = {"strategy__ae_mir__candidates": 24}  # as many as the memory holds
SEARCH = {
    **ALL,
    "strategy__ae_mir__steps": 2,
    "strategy__ae_mir__step_size": STEP,
    **{f"strategy__ae_mir__gain__{name}": x for name, x in GAIN.items()},
}
SCORE = {**ALL, "strategy__ae_mir__retrieval": "score"}


@cache
def standing(number=NUMBER):
    """A learner that searches, before that stream batch, which is the other one."""
    learning = made("ae_mir", **SEARCH)
    state = states(learning)[0][number]
    return learning, state.replace(strategy=planted(state.strategy)), batches()[number]


def planted(kept):
    """With an autoencoder and codes that differ: so soon these say little yet."""
    rng = np.random.default_rng(4)
    moved = lambda x: x + jnp.asarray(rng.uniform(-0.5, 0.5, x.shape), x.dtype)
    live = {**kept.coder.live, "params": jax.tree.map(moved, kept.coder.live["params"])}
    items = kept.memory.items
    code = jnp.asarray(rng.normal(size=items["code"].shape), jnp.float32)
    memory = replace(kept.memory, items={**items, "code": code})
    coder = kept.coder._replace(live=live, settled=live)
    return kept._replace(coder=coder, memory=memory)


def flat(x):
    return np.asarray(x, np.float64).reshape(len(x), -1)


def ahead_of(learning, state, batch):
    """The classifier's weights, and those one step of SGD on the raw batch on."""
    w = weights(state.params["method"])
    x, y = flat(learning.prepare(batch.image)), np.asarray(batch.label)
    return w, [a - RATE * g for a, g in zip(w, slopes(w, x, y), strict=True)]


def softmax(z):
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def gain(x, before, ahead):
    """What the search climbs, of views [b pixels], row by row."""
    p, q = softmax(run(before, x)[1]), softmax(run(ahead, x)[1])
    entropy = lambda p: -(p * np.log(p)).sum(axis=1)
    kl = (p * np.log(p / q)).sum(axis=1)
    rows = GAIN["interference"] * kl - GAIN["entropy"] * entropy(p)
    return rows - GAIN["entropy_ahead"] * entropy(q)


def climbed(learning, kept, batch, ahead):
    """The search, its slope in pixels by central differences in float64."""
    before, settled = weights(kept.before[0]), kept.coder.settled
    code = encode()(settled, signed(batch.image))
    for _ in range(2):
        see = lambda z: shown(learning.prepare, (decode()(settled, z) + 1) / 2)
        views, back = jax.vjp(see, code)
        x, slope = flat(views), np.zeros((BATCH, views[0].size))
        for pixel in range(x.shape[1]):
            step = 1e-5 * (np.arange(x.shape[1]) == pixel)
            rise = gain(x + step, before, ahead) - gain(x - step, before, ahead)
            slope[:, pixel] = rise / 2e-5
        slope = jnp.asarray(slope, jnp.float32).reshape(views.shape)
        code = code + STEP * back(slope)[0]
    return np.asarray(code)


def codes_of_the_past(kept):
    """Ids, codes and labels of all that may be replayed."""
    items = kept.memory.items
    own = np.isfinite(kept.memory.rank) & (np.asarray(items["task"]) < int(kept.task))
    assert own.sum() == 16 and len(held(kept)) > 16
    return tuple(np.asarray(items[name])[own] for name in ("id", "code", "label"))


@pytest.mark.parametrize("distinct", [True, *slow(False)])
def test_what_is_replayed_is_nearest_to_what_the_search_finds(distinct):
    learning, state, batch = standing()
    if not distinct:
        learning = made("ae_mir", strategy__ae_mir__distinct=False, **SEARCH)
    found, kept = drawn(learning, state, batch)
    _, ahead = ahead_of(learning, state, batch)
    sought = climbed(learning, kept, batch, ahead)
    start = np.asarray(encode()(kept.coder.settled, signed(batch.image)))
    assert np.abs(sought - start).max() > 0.01  # it has gone somewhere
    ids, codes, _ = codes_of_the_past(kept)
    left, expected = list(range(len(ids))), []
    for turn in range(R):
        gaps = [np.sum((sought[turn % BATCH] - codes[c]) ** 2) for c in left]
        best = np.sort(gaps)
        assert len(best) == 1 or best[1] - best[0] > 1e-5  # no tie decides
        place = left[int(np.argmin(gaps))]
        expected.append(int(ids[place]))
        if distinct:
            left.remove(place)
    assert found.items["id"][:R].tolist() == expected
    assert found.replay_mask.all() and float(found.told["searches_lost"]) == 0
    assert len(set(expected)) == (R if distinct else len(set(expected[:BATCH])))


def test_the_whole_step_is_the_oracles():
    learning, state, batch = standing()
    rows, _ = drawn(learning, state, batch)
    w = weights(state.params["method"])
    x, y = flat(rows.views[0]), np.asarray(rows.items["label"])
    expected = [a - RATE * g for a, g in zip(w, slopes(w, x, y), strict=True)]
    new = slopes(w, x[R:], y[R:])
    alone = [a - RATE * g for a, g in zip(w, new, strict=True)]
    after = weights(stepper(learning)(state, batch)[0].params["method"])
    gap = lambda a, b: max(np.abs(x - y).max() for x, y in zip(a, b, strict=True))
    # Pixels are rounded, in one program now and then to the number beside.
    assert gap(after, expected) < 1e-3 and gap(after, alone) > 1e-2


def test_with_scores_those_are_replayed_whose_loss_rises_most():
    learning, (_, state, batch) = made("ae_mir", **SCORE), standing()
    state = state.replace(strategy=state.strategy._replace(before=()))
    assert learning.init(jax.random.key(0), batch).strategy.before == ()
    found, kept = drawn(learning, state, batch)
    w, ahead = ahead_of(learning, state, batch)
    ids, codes, labels = codes_of_the_past(kept)
    decoded = to_pixels(decode()(kept.coder.settled, jnp.asarray(codes)))
    x = flat(learning.prepare(decoded))
    rise = losses(ahead, x, labels) - losses(w, x, labels)
    order = np.argsort(-rise)
    assert rise[order[R - 1]] - rise[order[R]] > 1e-3  # no tie decides
    assert set(found.items["id"][:R].tolist()) == set(ids[order[:R]].tolist())


def test_the_classifier_of_before_is_that_of_the_last_experiences_end():
    found, _ = states(made("ae_mir", **SEARCH))
    for number, end in ((5, 4), (8, 4), (9, 8), (12, 8)):
        before, then = found[number].strategy.before, found[end]
        for a, b in zip(
            weights(before[0]), weights(then.params["method"]), strict=True
        ):
            np.testing.assert_array_equal(a, b)


def test_there_is_nothing_to_replay_in_the_first_experience():
    found, _ = drawn(*standing(3))
    assert not found.replay_mask.any() and found.mask[R:].all()


def test_rows_that_do_not_count_find_nothing():
    learning, state, batch = standing()
    short = batch._replace(mask=jnp.arange(BATCH) < 3)
    found, _ = drawn(learning, state, short)
    assert found.replay_mask.tolist() == [i % BATCH < 3 for i in range(R)]
    other = short._replace(image=short.image.at[3].set(255 - short.image[3]))
    again, _ = drawn(learning, state, other)
    real = np.asarray(found.replay_mask)
    np.testing.assert_array_equal(
        found.items["id"][:R][real], again.items["id"][:R][real]
    )


def test_a_search_that_is_lost_is_told_and_starts_over():
    learning = made("ae_mir", **{**SEARCH, "strategy__ae_mir__step_size": 1e38})
    _, state, batch = standing()
    found, kept = drawn(learning, state, batch)
    assert float(found.told["searches_lost"]) == 1
    start = np.asarray(encode()(kept.coder.settled, signed(batch.image)))
    ids, codes, _ = codes_of_the_past(kept)
    first = ids[np.argmin(np.square(start[0] - codes).sum(axis=1))]
    assert int(found.items["id"][0]) == first


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"strategy__ae_mir__retrieval": "best"}, "retrieval must be one of nearest,"),
        (
            {"strategy__ae_mir__candidates": 7},
            "candidates must be replay_size 8 to mem",
        ),
        ({"strategy__ae_mir__candidates": 25}, ".* to memory_size 24, got 25"),
    ],
)
def test_settings_that_cannot_be_are_told(fields, words):
    with pytest.raises(UsageError, match=f"^config.strategy.ae_mir: {words}"):
        made("ae_mir", **fields)
