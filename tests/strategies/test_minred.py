"""MinRed: the stream enters the memory first, and the memory alone is trained on."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import BATCH, bits, stream, tiny_learning

from ocssl_jax.core import Learner, Outputs

REPLAY = 6  # rows, as in `tiny`


@cache
def started(train=False):
    learning = tiny_learning(
        strategy__name="minred", strategy__minred__embed_in_train_mode=train
    )
    arrivals = list(stream(8, short=False))
    return learning, arrivals, jax.jit(learning.init)(jax.random.key(0), arrivals[0])


def learner_of(learning, state):
    return Learner(
        state.params["method"], state.model, learning.method, learning.prepare
    )


def test_every_pass_trains_on_as_many_rows_as_the_memory_has():
    learning, arrivals, state = started()
    step, seen = jax.jit(learning.step), []
    for batch in arrivals:
        state, metrics = step(state, batch)
        seen.append((int(metrics["rows"]), int(metrics["memory_images"])))
    # The first batch is in the memory before its passes; never more than R rows.
    assert seen == [
        (min(REPLAY, held), held) for held in (4, 8, 12, 16, 20, 24, 24, 24)
    ]


def test_a_pass_sees_the_memory_and_nothing_else():
    learning, arrivals, state = started()
    part, kept = learning.strategy, state.strategy
    learner = learner_of(learning, state)
    plain = lambda key, images: jnp.stack([images, images]).astype(jnp.float32)
    seen = set()
    for i, batch in enumerate(arrivals[:3]):
        kept, _ = part.begin(jax.random.key(i), kept, learner, batch)
        for k in range(8):
            drawn = part.draw(jax.random.key(k), kept, learner, batch, plain)
            assert len(drawn.mask) == drawn.replayed == REPLAY
            assert drawn.mask.sum() == min(REPLAY, BATCH * (i + 1))
            ids = np.asarray(drawn.items["id"])[np.asarray(drawn.mask)]
            assert len(set(ids)) == len(ids) and ids.max() < BATCH * (i + 1)
            np.testing.assert_array_equal(
                kept.items["id"][drawn.slot], drawn.items["id"]
            )
            seen |= set(ids.tolist())
    assert seen == set(range(3 * BATCH))  # stream rows of this very batch included


@pytest.mark.parametrize("train", [False, True])
def test_rows_are_stored_with_their_embedding_before_the_passes(train):
    learning, arrivals, state = started(train)
    batch, learner = arrivals[0], learner_of(learning, state)
    x = learner.prepare(batch.image)
    z = learner.method.forward(learner.params, learner.model, x, train=train).z
    kept, model = learning.strategy.begin(
        jax.random.key(0), state.strategy, learner, batch
    )
    order = np.argsort(kept.items["id"][:BATCH])
    np.testing.assert_allclose(kept.feature[:BATCH][order], z, atol=1e-5)
    same = all(map(np.array_equal, bits(model), bits(state.model)))
    assert same == (not train)  # the released code moves the running statistics
    after = learning.strategy.end(jax.random.key(0), kept, learner, batch, None)
    assert all(map(np.array_equal, bits(after[0]), bits(kept)))  # nothing comes twice


@pytest.mark.parametrize("views", [1, 2])
def test_features_move_to_the_mean_over_views(views):
    learning, arrivals, state = started()
    part, learner = learning.strategy, learner_of(learning, state)
    kept, _ = part.begin(jax.random.key(0), state.strategy, learner, arrivals[0])
    plain = lambda key, images: jnp.stack([images] * views).astype(jnp.float32)
    batch = part.draw(jax.random.key(1), kept, learner, arrivals[0], plain)
    z = jax.random.normal(jax.random.key(2), (views, REPLAY, kept.feature.shape[1]))
    moved = part.update(kept, learner, batch, Outputs(z[0, :, 0], z, z, {}))
    real = np.asarray(batch.slot)[np.asarray(batch.mask)]
    assert len(real) == BATCH
    want = 0.5 * kept.feature[real] + 0.5 * z.mean(axis=0)[: len(real)]
    np.testing.assert_allclose(moved.feature[real], want, rtol=1e-5)
    others = np.setdiff1d(np.arange(len(kept.rank)), real)
    np.testing.assert_array_equal(moved.feature[others], kept.feature[others])
