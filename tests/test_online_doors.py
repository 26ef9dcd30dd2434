"""What a learner is given that it cannot take: one line, and nothing is lost."""

import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_online import GRAY
from tiny import BATCH, equal, tiny_config

import ocssl_jax
from ocssl_jax.checkpoint import Checkpoints
from ocssl_jax.errors import StorageError, UsageError

# No augmentation and no memory: compiled in a second. Its arrays depend on the size.
PLAIN = GRAY | {"augment__name": "none", "strategy__name": "none", "passes": 1}
CONVNET = {"backbone__name": "convnet", "backbone__width": 4}  # whose do not


def learner(**fields):
    return ocssl_jax.Learner(tiny_config(**(PLAIN | fields)))


def frames(n=BATCH, height=8, width=8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, height, width, 1), np.uint8)


def first(learner, size=8):
    return learner.init(jax.random.key(0), frames(1, size, size))


def moved(state, step):
    """The state as of a later stream batch."""
    return state.replace(step=jnp.int32(step))


@pytest.fixture(scope="module")
def mine():
    return learner()


def refused(words, function, *given, **more):
    with pytest.raises(UsageError, match=words) as error:
        function(*given, **more)
    assert "\n" not in str(error.value)


def files(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in folder.rglob("*")
    }


def keeps(folder, words, function, *given):
    """It is refused, and the folder is as it was."""
    before = files(folder)
    refused(words, function, *given)
    assert files(folder) == before


def test_another_learners_state_is_not_written_over(mine, tmp_path):
    mine.save(tmp_path / "a", moved(first(mine), 3))
    other = learner(optimizer__learning_rate=0.5)
    later = moved(first(other), 25)
    words = r"another config \(optimizer.learning_rate: .* -> 0.5\)"
    keeps(tmp_path, words, other.save, tmp_path / "a", later)
    words = r"another config \(optimizer.learning_rate: .* -> 0.5\)"
    keeps(tmp_path, words, other.load, tmp_path / "a", frames())
    words = "holds a state for images of 8 x 8, this is one for another size"
    keeps(tmp_path, words, mine.save, tmp_path / "a", moved(first(mine, 12), 25))


def test_a_runs_checkpoints_are_not_written_over(mine, tmp_path):
    run = Checkpoints(tmp_path / "run" / "checkpoints", keep=3)
    for step in (1, 2):
        run.save(step, [first(mine)], {"time": {}, "trained": 4, "stopped": {}})
    run.close()
    later, run = moved(first(mine), 25), tmp_path / "run"
    words = "no state that a learner has saved"
    keeps(tmp_path, words, mine.save, run / "checkpoints", later)
    keeps(tmp_path, words, mine.load, run / "checkpoints", frames())
    keeps(tmp_path, "holds checkpoints and no state", mine.save, run, later)


def test_a_folder_of_something_else_is_not_written_to(mine, tmp_path):
    for name in ("3/cat.png", "b/notes.txt", "c/.lock"):
        path = tmp_path / name
        path.parent.mkdir()
        path.write_text("mine")
    for folder in (tmp_path, tmp_path / "b", tmp_path / "c"):
        keeps(tmp_path, "no state", mine.save, folder, moved(first(mine), 25))


def test_what_is_beside_a_state_of_ones_own_stays(mine, tmp_path):
    state = first(mine)
    mine.export(tmp_path / "a", state, frames(1))
    for step in (1, 2):
        mine.save(tmp_path / "a", moved(state, step))
        (tmp_path / "a" / "notes.txt").write_text("of the camera")
    assert {p.name for p in (tmp_path / "a").iterdir()} == {
        *("2", "config.json", "encoder", "notes.txt")
    }
    other = learner(optimizer__learning_rate=0.5)
    other.export(tmp_path / "b", first(other), frames(1))
    keeps(tmp_path, "an encoder of.*config", mine.save, tmp_path / "b", state)


def test_images_must_be_square(mine, tmp_path):
    wide = frames(height=8, width=12)
    turned = frames().transpose(0, 3, 1, 2)  # the channels first
    refused("have 8 channels", mine.init, jax.random.key(0), turned)
    words = "square, got 8 x 12; crop or resize"
    refused(words, mine.init, jax.random.key(0), wide)
    for function in (mine.observe, mine.embed):
        refused(words, function, first(mine), wide)
    keeps(tmp_path, words, mine.export, tmp_path / "a", first(mine), wide)


def test_images_of_another_size_than_the_states(mine, tmp_path):
    state, big = first(mine), frames(height=12, width=12)
    words = "images are 12 x 12, this state was made for 8 x 8"
    for function in (mine.observe, mine.embed, mine.observe):
        refused(words, function, state, big)
    keeps(tmp_path, words, mine.export, tmp_path / "a", state, big)
    refused("are 8 x 8, this.*for 12 x 12", mine.embed, first(mine, 12), frames())
    foreign = first(learner(strategy__name="er"))
    refused("made for others, or by a learner of", mine.embed, foreign, frames())
    state, _ = mine.observe(state, frames())  # as good as before


def test_a_network_without_a_size_takes_any(tmp_path):
    free = learner(**CONVNET)
    state = first(free)
    state, _ = free.observe(state, frames(height=12, width=12))
    assert (
        free.embed(state, frames(2, 12, 12)).shape == free.embed(state, frames(2)).shape
    )
    free.save(tmp_path / "a", state)
    assert equal(free.load(tmp_path / "a", frames(1, 12, 12)), state)


def test_a_memory_of_images_has_their_size():
    er = learner(**CONVNET, strategy__name="er")
    state, big = first(er), frames(height=12, width=12)
    refused("12 x 12, this state was made for 8 x 8", er.observe, state, big)
    assert len(er.embed(state, big)) == BATCH  # by the network alone


def test_a_state_of_another_size_is_not_called_damaged(tmp_path):
    learner().save(tmp_path / "a", moved(first(old := learner()), 1))
    old.save(tmp_path / "b", first(old))
    big, fresh = frames(1, 12, 12), learner()
    words = "images are 12 x 12, the state in .*b was made for 8 x 8"
    keeps(tmp_path, words, fresh.load, tmp_path / "b", big)
    # As older versions, or a learner that has not met such images, have written it.
    about = json.loads((tmp_path / "a" / "1" / "progress" / "metadata").read_text())
    assert about["image_shape"] is None
    keeps(
        tmp_path, "were not 12 x 12, give an example", fresh.load, tmp_path / "a", big
    )
    assert int(fresh.load(tmp_path / "a", frames(1)).step) == 1


def test_folders_that_cannot_be(mine, tmp_path, capfd):
    (tmp_path / "file").write_text("mine")
    state = first(mine)
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        refused("file is a file, a folder is needed", mine.save, place, state)
        refused("is a file, a", mine.export, place, state, frames(1))
        refused("holds no state", mine.load, place, frames(1))
    long = tmp_path / ("x" * 300)
    for function, *more in ((mine.save,), (mine.export, frames(1))):
        with pytest.raises(StorageError, match="File name too long"):
            function(long, state, *more)
    assert (tmp_path / "file").read_text() == "mine"
    assert capfd.readouterr().err == ""


def test_a_folder_that_may_not_be_written_to(mine, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(StorageError, match=r"Permission denied: [^\n]*$"):
        mine.save(tmp_path, first(mine))
    assert capfd.readouterr().err == ""


def test_a_state_is_used_up_once(mine, tmp_path):
    old = first(mine)
    state, _ = mine.observe(old, frames())
    label = np.arange(BATCH) % 2
    for function, *given in (
        (mine.observe, old, frames()),
        (mine.embed, old, frames()),
        (mine.probe, old, frames(), label),
        (mine.save, tmp_path / "a", old),
        (mine.export, tmp_path / "a", old, frames()),
    ):
        refused("used up by observe; go on with the one", function, *given)
    assert not (tmp_path / "a").exists()
    refused("got tuple", mine.observe, mine.observe(state, frames()), frames())


def test_keys_of_either_kind(mine):
    key = jax.random.key(5)
    assert equal(mine.init(key, frames()), mine.init(jax.random.PRNGKey(5), frames()))
    refused("made by jax.random.key.*got int", mine.init, 5, frames())
    refused("key", mine.init, jax.random.split(key), frames())


def test_lists_that_are_no_array(mine):
    ragged = [frames()[0], frames(height=12, width=12)[0]]
    refused("all of one size", mine.embed, first(mine), ragged)
    refused("all of one size", mine.observe, first(mine), ragged)
    words = r"labels must be \[n\] whole numbers"
    refused(words, mine.probe, first(mine), frames(2), [[1], [1, 2]], name="ridge")
    named = learner(method__name="supervised", method__supervised__classes=3)
    words = "labels must be 2 whole numbers"
    refused(words, named.observe, first(named), frames(2), [[1], [1, 2]])


def test_what_a_probe_needs(mine):
    state, shown, label = first(mine), frames(), np.arange(BATCH) % 2
    assert learner().config.probe.names[0] == "linear"
    words = r"give held_out=\(images, labels\), or name='ridge'"
    refused(words, mine.probe, state, shown, label)
    for held in (shown, (shown,), (), "ab"[:1]):
        words = r"held_out must be a pair, \(images, labels\)"
        refused(words, mine.probe, state, shown, label, held_out=held)
    refused("labels", mine.probe, state, shown, label, held_out=(shown, [[1], [1, 2]]))


def test_floats_that_numpy_does_not_know(mine):
    half = jnp.asarray(frames() // 255, jnp.bfloat16)
    want = mine.embed(first(mine), frames() // 255 * 255)
    np.testing.assert_array_equal(mine.embed(first(mine), half), want)
