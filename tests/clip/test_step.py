"""The one step on a small CLIP: bfloat16 at temperature 0.01, padding, what stays."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learners import NAMES, SIDE, config_of, learning_of

from ocssl_jax.clip import objectives
from ocssl_jax.clip.criteria import CRITERIA, Batch, Classes
from ocssl_jax.core import Stream

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
CLASSES, IMAGES = len(NAMES), 12


def pool(seed=0):
    """Images of one colour a class, with noise; labels."""
    rng = np.random.default_rng(seed)
    label = np.arange(IMAGES) % CLASSES
    colour = rng.integers(0, 256, size=(CLASSES, 1, 1, 3))
    noise = rng.integers(-25, 26, size=(IMAGES, SIDE, SIDE, 3))
    return np.clip(colour[label] + noise, 0, 255).astype(np.uint8), label


def batch(start=0, padding=0):
    """Eight rows of the pool from `start` on, and two that do not count."""
    image, label = pool()
    rng = np.random.default_rng(padding)
    row = np.concatenate(
        [np.arange(start, start + 8) % IMAGES, rng.permutation(12)[:2]]
    )
    return Stream(
        image=jnp.asarray(image[row]),
        id=jnp.asarray(row, jnp.int32),
        mask=jnp.arange(10) < 8,
        boundary=jnp.asarray(start == 0),
        label=jnp.asarray(label[row], jnp.int32),
        pool=jnp.full(CLASSES, IMAGES / CLASSES, jnp.float32),
    )


@pytest.fixture(scope="module", params=["gcl", "gdro"])
def learner(request, tmp_path_factory):
    """State and step in bfloat16 at the temperature that CLIP ends with."""
    name = request.param
    config = config_of(tmp_path_factory.mktemp("words"), method__clip__objective=name)
    config.method.clip.objectives[name].temperature = 0.01
    if name == "gdro":
        config.method.clip.objectives.gdro.margin = 0.5
    made = learning_of(config)
    return made.init(jax.random.key(1), batch()), jax.jit(made.step)


@pytest.mark.slow
def test_bfloat16_at_a_temperature_of_a_hundredth(learner):
    """Nothing overflows from random weights on, and the objective falls."""
    state, step = learner
    seen = []
    for i in range(25):
        state, metrics = step(state, batch(8 * i, i))
        seen.append(float(metrics["loss"]))
        assert all(np.isfinite(x) for x in metrics.values())
    for leaf in jax.tree.leaves(state.params):
        assert leaf.dtype == jnp.float32 and np.isfinite(leaf).all()
    # Every image has been an anchor: the averages are numbers.
    tables = [x for x in state.model["objective"].values() if x.shape == (IMAGES,)]
    assert len(tables) == 2 and np.isfinite(tables).all()
    assert np.mean(seen[-3:]) < np.mean(seen[:3]) - 0.1
    assert step._cache_size() == 1


def test_padding_has_no_influence(learner):
    state, step = learner
    one, two = step(state, batch(padding=0)), step(state, batch(padding=1))
    parts = lambda found: (found[0].params, found[0].model, found[1])
    for a, b in zip(
        jax.tree.leaves(parts(one)), jax.tree.leaves(parts(two)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_the_scale_is_kept(learner):
    state, step = learner
    after, _ = step(state, batch())
    assert after.model["logit_scale"] == state.model["logit_scale"] > 0
    ours = lambda state: state.params["method"]
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), ours(after), ours(state))
    for part in ("encoder", "projector", "text"):
        assert any(jax.tree.leaves(moved[part])), part


@pytest.mark.slow
def test_true_sizes_keep_the_state_as_it_is(tmp_path):
    """ViT-B/16 on a hundred classes, traced only: float32 in, the same tree out."""
    config = config_of(
        tmp_path / "words", "clip_vit_b16", method__clip__objective="gdro"
    )
    names = tuple(f"class {i}" for i in range(100))
    made = learning_of(config, side=224, names=names, images=50_000)
    shape = jax.ShapeDtypeStruct
    row = shape((32,), jnp.int32)
    image = shape((32, 224, 224, 3), jnp.uint8)
    flag = lambda *size: shape(size, bool)
    pool = shape((100,), jnp.float32)
    stream = Stream(image, row, flag(32), flag(), row, pool)
    state = jax.eval_shape(made.init, jax.random.key(0), stream)
    after, metrics = jax.eval_shape(made.step, state, stream)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    assert all(x.shape == () for x in metrics.values())
    params = jax.tree.leaves(state.params["method"])
    assert {x.dtype for x in params} == {jnp.dtype("float32")}
    assert 1 + sum(x.size for x in params) == 149_620_737  # and the scale


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
