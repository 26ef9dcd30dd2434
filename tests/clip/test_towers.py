"""CLIP's towers: golden features of two libraries, sizes, what texts depend on."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import FEATURES, IMAGES, SOURCES, TOKENS, folder

from ocssl_jax.clip.architecture import ARCHITECTURES
from ocssl_jax.clip.towers import Clip, random_params, shapes_of
from ocssl_jax.clip.weights import load
from ocssl_jax.errors import UsageError


def features(path, dtype="float32"):
    architecture, params = load(path)
    module = Clip(architecture, jnp.dtype(dtype))
    return jax.jit(module.apply)({"params": params}, IMAGES, TOKENS)


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("source", SOURCES)
def test_golden_features(tmp_path, source, activation):
    found = features(folder(tmp_path / "clip", source, activation))
    for tower, here in zip(("image", "text"), found, strict=True):
        golden = FEATURES[f"{source}_{activation}_{tower}"]
        scale = np.abs(golden).max()
        assert here.dtype == jnp.float32
        np.testing.assert_allclose(here, golden, atol=1e-5 * scale, rtol=0)
        # The other activation is told apart: the goldens' weights are large enough.
        other = {"gelu": "quick_gelu", "quick_gelu": "gelu"}[activation]
        off = np.abs(here - FEATURES[f"{source}_{other}_{tower}"]).max()
        assert off > 1e-3 * scale


def test_bfloat16_features_are_near(tmp_path):
    found = features(folder(tmp_path / "clip", "open_clip", "gelu"), "bfloat16")
    for tower, here in zip(("image", "text"), found, strict=True):
        golden = FEATURES[f"open_clip_gelu_{tower}"]
        cos = np.sum(here * golden, -1) / np.linalg.norm(here, axis=-1)
        assert here.dtype == jnp.float32
        assert (cos / np.linalg.norm(golden, axis=-1) > 0.995).all()


def test_texts_may_be_cut_behind_their_last_token(tmp_path):
    architecture, params = load(folder(tmp_path / "clip", "open_clip", "gelu"))
    module = Clip(architecture, jnp.float32)
    encode = jax.jit(
        lambda t: module.apply({"params": params}, t, method="encode_text")
    )
    whole = encode(jnp.asarray(TOKENS))
    np.testing.assert_allclose(encode(jnp.asarray(TOKENS[:, :6])), whole, atol=1e-5)
    # Nor does it matter what stands there.
    other = np.where(np.arange(9) > 5, 3, TOKENS)
    np.testing.assert_allclose(encode(jnp.asarray(other)), whole, atol=1e-5)
    with pytest.raises(ValueError, match="at most 9 tokens here, not 10"):
        encode(jnp.zeros((1, 10), jnp.int32))


@pytest.mark.parametrize(
    ("name", "total", "vision"),
    [
        ("ViT-B-16", 149_620_737, 86_192_640),
        ("ViT-B-16-quickgelu", 149_620_737, 86_192_640),
        ("ViT-B-32", 151_277_313, 87_849_216),
        ("ViT-B-32-quickgelu", 151_277_313, 87_849_216),
    ],
)
def test_parameters_as_open_clip_counts_them(name, total, vision):
    count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
    shapes = shapes_of(ARCHITECTURES[name])
    assert (count(shapes), count(shapes["image"])) == (total, vision)
    assert len(jax.tree.leaves(shapes)) == 302


def test_micro_trains_from_the_start():
    one = lambda tower: tower._replace(layers=1)  # shorter to compile
    micro = ARCHITECTURES["micro"]
    architecture = replace(micro, image=one(micro.image), text=one(micro.text))
    params = random_params(jax.random.key(0), architecture)
    assert params["logit_scale"] == pytest.approx(np.log(1 / 0.07))
    side = architecture.image_size
    images = jnp.asarray(np.random.default_rng(0).normal(size=(3, side, side, 3)))
    tokens = jnp.array([[518, 4, 519], [518, 7, 519]])

    @jax.jit
    def loss(params):
        module = Clip(architecture, jnp.float32)
        x, t = module.apply({"params": params}, images.astype(jnp.float32), tokens)
        return jnp.sum(jnp.matmul(x, t.T))

    grads = jax.grad(loss)(params)
    grads.pop("logit_scale")  # the objectives have temperatures of their own
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(grads))


def test_impossible_sizes_are_refused():
    micro = ARCHITECTURES["micro"]
    for fields, message in [
        ({"image_size": 25}, "multiple of its patch, got 25 and 6"),
        ({"activation": "relu"}, "one of gelu, quick_gelu, got 'relu'"),
        ({"text": micro.text._replace(heads=5)}, "text tower needs a width"),
    ]:
        with pytest.raises(UsageError, match=message):
            replace(micro, **fields)
