"""A learner in one's own loop is the learner of a run, and loses nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow
from tiny import BATCH, SHAPE, equal, stream, tiny_config

import ocssl_jax
from ocssl_jax import saved
from ocssl_jax.errors import UsageError
from ocssl_jax.learning import make_learning

GRAY = {"stream__dataset": "mnist"}  # whose pixels have one channel, mean 0 and std 1
RNG = np.random.default_rng(0)


def learner(**fields):
    return ocssl_jax.Learner(tiny_config(**(GRAY | fields)))


def images(n=BATCH, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *SHAPE), np.uint8)


def after(learner, batches, state=None):
    if state is None:
        state = learner.init(jax.random.key(3), images())
    for i in batches:
        state, _ = learner.observe(state, images(seed=i))
    return state


def test_it_does_what_the_step_of_a_run_does():
    mine = learner()
    run = make_learning(mine.config, shape=SHAPE, mean=(0.0,), std=(1.0,))
    first = jax.jit(run.init)
    batches = list(stream(4))  # the last one is short
    state = mine.init(jax.random.key(1), batches[0].image)
    want = first(jax.random.key(1), batches[0])
    step = jax.jit(run.step)
    for i, batch in enumerate(batches):
        rows = int(batch.mask.sum())
        state, metrics = mine.observe(
            state, batch.image[:rows], boundary=bool(batch.boundary)
        )
        repeated = batch.image[jnp.arange(BATCH) % rows]
        want, expected = step(want, batch._replace(image=repeated))
        assert int(state.step) == i + 1
        for name, value in expected.items():
            # Two programs round differently; another draw would differ by far more.
            np.testing.assert_allclose(metrics[name], value, rtol=5e-3, err_msg=name)


def test_the_same_images_in_floats_or_bytes_give_the_same_bits():
    mine = learner()
    states = [mine.init(jax.random.key(0), images()) for _ in range(2)]
    one, _ = mine.observe(states[0], images(3, seed=1))
    two, _ = mine.observe(states[1], images(3, seed=1).astype(np.float32) / 255)
    assert equal(one, two)


def test_features_of_any_number_of_images_leave_the_state_alone():
    mine = learner(probe__batch_size=5)
    state = after(mine, range(2))
    many = images(13)
    features = mine.embed(state, many)
    assert features.shape == (13, 16) and features.dtype == np.float32
    alone = np.concatenate([mine.embed(state, many[i : i + 1]) for i in range(13)])
    np.testing.assert_allclose(features, alone, rtol=1e-5, atol=1e-6)
    assert equal(state, after(mine, range(2)))


@pytest.mark.parametrize("name", ["ridge", *slow("knn", "linear")])
def test_a_few_labels_make_a_classifier(name):
    mine = learner(probe__linear__batch_size=8, probe__linear__patience=20)
    label = RNG.integers(0, 2, 400)
    lit = images(400) // 4
    for image, i in zip(lit, label, strict=True):
        image[4 * i : 4 * i + 4] += 190  # its upper or lower half
    state, label = after(mine, range(2)), label + 7
    held = (lit[300:340], label[300:340]) if name == "linear" else None
    classify = mine.probe(state, lit[:300], label[:300], name=name, held_out=held)
    assert (classify(lit[340:]) == label[340:]).mean() > 0.9


@pytest.mark.parametrize("strategy", ["climb", *slow("er")])
def test_a_saved_state_goes_on_with_the_same_bits(tmp_path, strategy):
    mine = learner(strategy__name=strategy)
    mine.save(tmp_path / "a", after(mine, range(3)))
    again = learner(strategy__name=strategy)
    state = again.load(tmp_path / "a", images(1))
    assert equal(state, after(mine, range(3)))
    state = after(again, range(3, 6), state)
    assert equal(state, after(mine, range(6)))
    again.save(tmp_path / "a", state)
    assert int(mine.load(tmp_path / "a", images(1)).step) == 6


def test_what_cannot_be_saved_or_loaded_is_told_in_a_line(tmp_path):
    mine = learner()
    mine.save(tmp_path / "a", after(mine, range(3)))
    with pytest.raises(UsageError, match="stream batch 3, this is the one after 2"):
        mine.save(tmp_path / "a", after(mine, range(2)))
    with pytest.raises(UsageError, match="holds no state"):
        mine.load(tmp_path / "b", images(1))
    with pytest.raises(UsageError, match="of another config"):
        learner(optimizer__learning_rate=0.5).load(tmp_path / "a", images(1))
    with pytest.raises(UsageError, match=r"backbone.width: 16 -> 8\)"):
        learner(backbone__width=8).load(tmp_path / "a", images(1))


@pytest.mark.slow
def test_an_exported_encoder_is_a_runs_encoder(tmp_path):
    mine, place = learner(), tmp_path / "a"
    state = after(mine, range(2))
    mine.save(place, state)
    mine.export(place, state, images(1))
    found = saved.load(place, None)
    features = found.encode(found.variables, images(5, seed=7))
    want = mine.embed(state, images(5, seed=7))
    np.testing.assert_allclose(features, want, rtol=1e-5, atol=1e-6)
    state = after(mine, range(2, 3), mine.load(place, images(1)))
    mine.save(place, state)
    assert int(mine.load(place, images(1)).step) == 3
    with pytest.raises(UsageError, match="holds a run with another config"):
        learner(optimizer__learning_rate=0.5).export(place, state, images(1))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.zeros((8, 8, 1), np.uint8), r"must be \[n h w c\].*\(8, 8, 1\)"),
        (np.zeros((0, 8, 8, 1), np.uint8), "at least 1"),
        (np.zeros((1, 8, 8, 1), np.int32), "uint8 or floats.*int32"),
        (np.full((1, 8, 8, 1), 1.5), r"must lie in \[0, 1\]"),
        (np.full((1, 8, 8, 1), np.nan), r"must lie in \[0, 1\]"),
        (np.zeros((1, 8, 8, 3), np.uint8), "3 channels.*'mnist', which have 1"),
        (np.zeros((5, 8, 8, 1), np.uint8), "batch_size=4 images.*got 5"),
    ],
)
def test_what_is_no_stream_batch_is_refused(given, words):
    mine = learner()
    state = mine.init(jax.random.key(0), images())
    with pytest.raises(UsageError, match=words):
        mine.observe(state, given)


def test_a_classifier_learns_from_labels():
    mine = learner(
        method__name="supervised",
        method__supervised__classes=3,
        strategy__name="er",
        augment__name="none",
        optimizer__learning_rate=0.05,
    )
    state, losses = mine.init(jax.random.key(0), images()), []
    for _ in range(30):
        state, metrics = mine.observe(state, images(), [0, 2, 1, 2])
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.2 * losses[0]
    for labels in (None, [0, 1], [0, 1, 2, 3], [0.0, 1.0, 2.0, 2.0]):
        with pytest.raises(UsageError, match="4 whole numbers from 0 to 2"):
            mine.observe(state, images(), labels)
    plain = learner()
    with pytest.raises(UsageError, match="'supervised' alone"):
        plain.observe(plain.init(jax.random.key(0), images()), images(), [0, 1, 0, 1])


def test_a_config_is_checked_before_anything_is_made():
    config = tiny_config(**GRAY)
    config.strategy.name = "climbb"
    with pytest.raises(UsageError, match=r"strategy\.name must be one of"):
        ocssl_jax.Learner(config)
    assert not hasattr(ocssl_jax, "learner")


def test_what_a_run_has_beside_it_does_not_matter():
    config = tiny_config(**GRAY)
    config.strategy.name, config.baselines = "none", ("none", "random")
    assert ocssl_jax.Learner(config).config.baselines == ()
