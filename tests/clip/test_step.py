"""Fine-tuning a small CLIP: bfloat16 at temperature 0.01, padding, what stays."""

from dataclasses import replace
from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ocssl_jax.augment import make_augment
from ocssl_jax.clip import objectives
from ocssl_jax.clip.architecture import ARCHITECTURES
from ocssl_jax.clip.criteria import CRITERIA, Batch, Classes
from ocssl_jax.clip.step import adamw, make_step
from ocssl_jax.clip.towers import random_params, shapes_of

MICRO = ARCHITECTURES["micro"]
SMALL = replace(
    MICRO,
    image=MICRO.image._replace(layers=1),
    image_size=12,
)
CONTRAST = {"rate": 0.9, "negatives": "class", "negative_weight": "sample"}
SETTINGS = {
    "gcl": CONTRAST,
    "gdro": {
        **CONTRAST,
        "surrogate": "squared_hinge",
        "margin": 0.5,
        "class_rate": 0.9,
        "strength": 0.1,
    },
    "info_nce": {},
    "cross_entropy": {},
}
CLASSES, IMAGES = 4, 12
TOKENS = jnp.array([[518, 10 + k, 20 + k, 519] for k in range(CLASSES)])


def pool(seed=0):
    """Images of one colour a class, with noise; labels."""
    rng = np.random.default_rng(seed)
    label = np.arange(IMAGES) % CLASSES
    colour = rng.integers(0, 256, size=(CLASSES, 1, 1, 3))
    noise = rng.integers(-25, 26, size=(IMAGES, 12, 12, 3))
    return np.clip(colour[label] + noise, 0, 255).astype(np.uint8), label


def batch(start=0, padding=0):
    """Eight rows of the pool from `start` on, and two that do not count."""
    image, label = pool()
    rng = np.random.default_rng(padding)
    row = np.concatenate(
        [np.arange(start, start + 8) % IMAGES, rng.permutation(12)[:2]]
    )
    mask = np.arange(10) < 8
    return Batch(
        image=jnp.asarray(image[row]),
        label=jnp.asarray(label[row]),
        id=jnp.asarray(row),
        mask=jnp.asarray(mask),
        share=jnp.asarray(np.where(mask, CLASSES / 8, 0.0), jnp.float32),
    )


def classes():
    size = jnp.full(CLASSES, IMAGES / CLASSES, jnp.float32)
    return Classes(jnp.arange(CLASSES), size, jnp.ones(CLASSES, bool))


@cache
def learner(name):
    """State and step in bfloat16 at the temperature that CLIP ends with."""
    criterion = CRITERIA[name](temperature=0.01, **SETTINGS[name])
    augment = make_augment(
        "none",
        image_size=12,
        channels=3,
        mean=SMALL.mean,
        std=SMALL.std,
        views=1,
        per="sample",
    )
    init, step = make_step(
        SMALL,
        criterion,
        adamw(1e-3, weight_decay=0.1),
        augment=augment,
        dtype=jnp.bfloat16,
    )
    params = random_params(jax.random.key(0), SMALL)
    return init(jax.random.key(1), params, IMAGES, CLASSES), jax.jit(step)


@pytest.mark.parametrize("name", ["gcl", "gdro"])
def test_bfloat16_at_a_temperature_of_a_hundredth(name):
    """Nothing overflows from random weights on, and the objective falls."""
    state, step = learner(name)
    seen = []
    for i in range(25):
        state, metrics = step(state, batch(8 * i, i), classes(), TOKENS)
        seen.append(float(metrics["contrast"]))
        assert all(np.isfinite(x) for x in metrics.values())
    for leaf in jax.tree.leaves(state.params):
        assert leaf.dtype == jnp.float32 and np.isfinite(leaf).all()
    # Every image has been an anchor: the averages are numbers.
    tables = state.strategy if name == "gcl" else state.strategy[0]
    assert np.isfinite(tables.image).all() and np.isfinite(tables.text).all()
    assert np.mean(seen[-3:]) < np.mean(seen[:3]) - 0.1
    assert step._cache_size() == 1


@pytest.mark.parametrize("name", ["gcl", "gdro"])
def test_padding_has_no_influence(name):
    state, step = learner(name)
    one, metrics = step(state, batch(padding=0), classes(), TOKENS)
    two, padded = step(state, batch(padding=1), classes(), TOKENS)
    for a, b in zip(
        jax.tree.leaves((one.params, one.strategy, metrics)),
        jax.tree.leaves((two.params, two.strategy, padded)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_the_scale_is_kept():
    state, step = learner("gcl")
    after, _ = step(state, batch(), classes(), TOKENS)
    assert after.params["logit_scale"] == state.params["logit_scale"]
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), after.params, state.params)
    assert any(jax.tree.leaves(moved["image"])) and any(jax.tree.leaves(moved["text"]))


def test_true_sizes_keep_the_state_as_it_is():
    """ViT-B/16 on a hundred classes, traced only: float32 in, the same tree out."""
    base = ARCHITECTURES["ViT-B-16"]
    criterion = CRITERIA["gdro"](temperature=0.01, **SETTINGS["gdro"])
    init, step = make_step(
        base,
        criterion,
        adamw(1e-5, weight_decay=0.1),
        augment=lambda key, x: x[None].astype(jnp.float32) / 255,
        dtype=jnp.bfloat16,
    )
    shape = jax.ShapeDtypeStruct
    row, number = shape((32,), jnp.int32), shape((32,), jnp.float32)
    image = shape((32, 224, 224, 3), jnp.uint8)
    rows = Batch(image, row, row, shape((32,), bool), number)
    known = Classes(
        shape((100,), jnp.int32), shape((100,), jnp.float32), shape((100,), bool)
    )
    state = jax.eval_shape(
        lambda p: init(jax.random.key(0), p, 50_000, 100), shapes_of(base)
    )
    tokens = shape((100, 16), jnp.int32)
    after, metrics = jax.eval_shape(step, state, rows, known, tokens)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    assert all(x.shape == () for x in metrics.values())


@pytest.mark.parametrize("name", ["info_nce", "cross_entropy"])
def test_plain_losses_are_means_over_the_pool(name):
    """The whole pool as one batch, classes of unlike sizes."""
    label = jnp.array([0, 0, 0, 1, 2, 2])
    size = jnp.array([3.0, 1.0, 2.0, 0.0])
    every = jnp.ones(6, bool)
    s = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4)), jnp.float32)
    known = Classes(jnp.arange(4), size, jnp.arange(4) < 3)
    rows = Batch(s[:, 0], label, jnp.arange(6), every, 1 / size[label])
    found, _, _ = CRITERIA[name](temperature=0.3).loss((), s, rows, known)
    if name == "info_nce":
        each = objectives.info_nce(s[:, label], label, every, temperature=0.3)
    else:
        each = objectives.cross_entropy(s, label, known.seen, every, temperature=0.3)
    np.testing.assert_allclose(found, each.mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "fields", "match"),
    [
        ("gcl", {"rate": 0.0}, r"rate must lie in \(0, 1\], got 0"),
        ("gcl", {"negative_weight": "all"}, "must be one of sample, class, got 'all'"),
        ("gdro", {"class_rate": 1.5}, "class_rate must lie in"),
        ("gdro", {"strength": 0.0}, "strength must be above 0"),
        ("info_nce", {"temperature": 0.0}, "temperature must be above 0"),
    ],
)
def test_impossible_settings(name, fields, match):
    with pytest.raises(ValueError, match=match):
        CRITERIA[name](**{"temperature": 0.1, **SETTINGS[name], **fields})
