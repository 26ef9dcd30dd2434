"""Runs that start from a CLIP's files: the same network, there and back, refusals."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from learners import NAMES, SIDE, config_of, learning_of
from safetensors.numpy import load_file
from tiny import merges

from configs import clip_cifar100
from ocssl_jax import experiment, settings
from ocssl_jax.clip.architecture import ARCHITECTURES
from ocssl_jax.clip.start import as_clip
from ocssl_jax.clip.tokenizer import load_tokenizer
from ocssl_jax.clip.towers import Clip, random_params
from ocssl_jax.clip.weights import CONFIG, WEIGHTS, load, save
from ocssl_jax.clip.zero_shot import class_features, class_tokens, similarities
from ocssl_jax.core import Stream
from ocssl_jax.errors import UsageError

MICRO = ARCHITECTURES["micro"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CLIP of the small architecture with random weights, its merges beside it."""
    path = tmp_path_factory.mktemp("micro")
    save(path, MICRO, random_params(jax.random.key(3), MICRO))
    merges(path, MICRO.vocabulary)
    return path


def started(folder, weights, **fields):
    """A learner from these weights, float32."""
    fields = {"precision": "float32", "method__clip__weights": str(weights)} | fields
    return learning_of(config_of(folder, **fields))


def arrival(seed=0, side=SIDE, rows=4):
    rng = np.random.default_rng(seed)
    return Stream(
        image=jnp.asarray(rng.integers(0, 256, (rows, side, side, 3), np.uint8)),
        id=jnp.arange(rows),
        mask=jnp.ones(rows, bool),
        boundary=jnp.asarray(True),
        label=jnp.arange(rows) % len(NAMES),
        pool=jnp.full(len(NAMES), 3.0),
    )


def test_images_and_words_are_those_of_the_clip_in_the_files(folder):
    made, batch = started(folder, folder), arrival()
    state = made.init(jax.random.key(0), batch)
    architecture, params = load(folder)
    clip = Clip(architecture, jnp.float32)
    words = load_tokenizer(folder, context=architecture.context)
    tokens = jnp.asarray(class_tokens(words, architecture, NAMES))
    encode = lambda t: clip.apply({"params": params}, t, method="encode_text")
    images = clip.apply(
        {"params": params}, made.prepare(batch.image), method="encode_image"
    )
    expected = similarities(images, class_features(encode, tokens))
    seen = made.method.forward(
        state.params["method"], state.model, made.prepare(batch.image), train=False
    )
    found = made.method.logits(state.params["method"], seen.z) * 0.05
    np.testing.assert_allclose(found, expected, atol=2e-5)
    head = made.head(state)
    scores = np.asarray(seen.e) @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    np.testing.assert_array_equal(scores.argmax(axis=1), expected.argmax(axis=1))


def test_what_was_read_comes_out_bit_for_bit_and_the_scale_after_training(
    folder, tmp_path
):
    made, batch = started(folder, folder), arrival()
    first = made.init(jax.random.key(0), batch)
    after, _ = jax.jit(made.step)(first, batch)
    there = load_file(folder / WEIGHTS)
    for name, state in (("first", first), ("after", after)):
        save(tmp_path / name, MICRO, as_clip(state.params["method"], state.model))
        back = load_file(tmp_path / name / WEIGHTS)
        same = {k for k, x in there.items() if x.tobytes() == back[k].tobytes()}
        assert back.keys() == there.keys()
        assert same == (set(there) if name == "first" else {"logit_scale"})


def test_seeds_start_alike_and_a_resumed_run_reads_no_weights(folder):
    config = config_of(folder, method__clip__weights=str(folder))
    made, other = (learning_of(config, fresh=fresh) for fresh in (True, False))
    batch = arrival()
    a, b = (made.init(jax.random.key(s), batch).params["method"] for s in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, a, b)
    like = lambda x: jax.eval_shape(x.init, jax.random.key(0), batch)
    assert jax.tree.structure(like(made)) == jax.tree.structure(like(other))
    assert jax.tree.leaves(like(made)) == jax.tree.leaves(like(other))


def test_small_and_grey_images_are_resized_and_seen_in_three_channels(folder):
    made = started(folder, folder)
    small, batch = arrival(side=12), arrival()
    state = made.init(jax.random.key(0), batch)
    forward = lambda images: made.method.forward(
        state.params["method"], state.model, images, train=False
    )
    x = made.prepare(small.image)
    larger = jax.image.resize(x, (4, SIDE, SIDE, 3), "cubic")
    np.testing.assert_allclose(forward(x).z, forward(larger).z, atol=1e-5)
    grey = x[..., :1]
    three = jnp.repeat(grey, 3, axis=-1)
    np.testing.assert_allclose(forward(grey).z, forward(three).z, atol=1e-6)


def test_a_file_alone_needs_no_configuration(folder, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes())
    batch = arrival()
    states = [
        started(folder, path).init(jax.random.key(0), batch)
        for path in (folder, alone / WEIGHTS)
    ]
    leaves = [flatten_dict(s.params["method"], sep=".") for s in states]
    jax.tree.map(np.testing.assert_array_equal, *leaves)


def test_weights_that_do_not_fit_are_refused_in_one_line(folder, tmp_path):
    with pytest.raises(
        UsageError, match=r"needs the image tower of a CLIP.*clip_micro"
    ):
        started(folder, folder, backbone__name="mlp")
    other = tmp_path / "other"
    save(other, MICRO, random_params(jax.random.key(0), MICRO))
    about = json.loads((other / CONFIG).read_text())
    about["model_cfg"]["quick_gelu"] = False
    (other / CONFIG).write_text(json.dumps(about))
    with pytest.raises(UsageError, match=r"activation gelu and not quick_gelu$"):
        started(folder, other)
    base = ARCHITECTURES["ViT-B-32"]
    save(other, replace(MICRO, context=8), {})
    (other / CONFIG).write_text(json.dumps({"model_cfg": described(base)}))
    with pytest.raises(UsageError, match=r"backbone\.name=clip_vit_b32 fits"):
        started(folder, other)
    with pytest.raises(UsageError, match="there is no file"):
        started(folder, tmp_path / "nothing")
    with pytest.raises(UsageError, match=r"width and depth must be 0, got 32"):
        started(folder, folder, backbone__width=32)
    with pytest.raises(UsageError, match=r"must be '' with method.pretrained"):
        started(folder, folder, method__pretrained="x.safetensors")


def described(architecture):
    """What open_clip writes of an architecture, as far as it is not its default."""
    return {
        "embed_dim": architecture.features,
        "vision_cfg": {"patch_size": architecture.patch},
        "text_cfg": {},
    }


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_starts_from_weights_and_judges_them_first(folder, tmp_path):
    """The config of CIFAR-100, with another network and the digits."""
    config = clip_cifar100.get_config("gdro")
    config.seeds, config.precision = (0,), "float32"
    config.stream.update({"dataset": "digits", "data_dir": str(tmp_path / "data")})
    config.stream.update({"order": tuple(range(10)), "classes": 4, "tasks": 2})
    config.stream.update({"epochs": 1, "batch_size": 32, "memory": 10, "balanced": 4})
    config.stream.pixels = "standard"
    config.backbone.name, config.method.clip.weights = "clip_micro", str(folder)
    found = experiment.run(settings.resolve(config, {}), tmp_path / "run", {})
    assert "group DRO" in found and "zero-shot" in found
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["learner"] == "group DRO" and summary["steps"] > 10
