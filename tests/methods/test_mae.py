"""MAE: what is hidden, what is seen, what the loss is over, golden values."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from formula import uniform, vit_part
from tiny import SSL, stream, tiny_learning

from ocssl_jax.backbones import make_backbone
from ocssl_jax.backbones.mlp import Mlp
from ocssl_jax.core import Batch
from ocssl_jax.methods.mae import mae, pixel_loss, put_back, shuffled
from ocssl_jax.pairs import TWO_VIEWS

module = importlib.import_module(
    "ocssl_jax.methods.mae"
)  # the package names the method
SIDE, PATCHES, KEPT = 8, 16, 4


def vit(dtype="float32"):
    return make_backbone(
        "vit_tiny",
        image_size=SIDE,
        dtype=dtype,
        width=12,
        depth=2,
        stem="auto",
        pool="cls",
    )


def method(backbone=None, mask_ratio=0.75, layers=2, heads=3, dtype="float32"):
    return mae(
        vit(dtype) if backbone is None else backbone,
        dtype=jnp.dtype(dtype),
        mask_ratio=mask_ratio,
        decoder_layers=layers,
        decoder_heads=heads,
    )


def batch_of(x, mask=None):
    mask = jnp.ones(len(x), bool) if mask is None else jnp.asarray(mask)
    return Batch(views=jnp.asarray(x)[None], mask=mask, items={})


def formula(params):
    """The same tree with numbers by formula."""
    flat = flatten_dict(params, sep=".")
    return unflatten_dict({n: vit_part(n, x.shape) for n, x in flat.items()}, sep=".")


IMAGES = uniform("images", (2, SIDE, SIDE, 3))
ORDER = np.array(
    [[(7 * i + 3) % 16 for i in range(16)], [(5 * i + 11) % 16 for i in range(16)]]
)

# By an MAE written anew in PyTorch 2.13 (float64; pixels put into an image, a mask of
# pixels), with the weights of `formula`, the images and the order above: each row's
# loss, the mean over all pixels, and the first image's class token.
ROWS, LOSS = [1.4307416, 1.5896545], 1.5101981
TOKEN = [-0.948618, 0.114168, 0.406197, 0.764915, 1.53194, 1.11152]
TOKEN += [0.476702, 0.762019, -0.35392, -1.53931, 0.374083, -2.15375]


@pytest.fixture(scope="module")
def world():
    """A method, its weights by formula, and its compiled loss under a given order."""
    made = method()
    params, model = jax.jit(made.init)(jax.random.key(0), IMAGES[:1])
    params = {"projector": params["projector"]} | formula(params)

    @jax.jit
    def run(x, mask, order):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "shuffled", lambda key, rows, patches: order)
            return made.loss(params, model, batch_of(x, mask), jax.random.key(0))

    return made, params, model, run


def test_golden_loss_and_features(world):
    _, params, model, run = world
    out = run(IMAGES, np.ones(2, bool), ORDER)
    np.testing.assert_allclose(out.loss, ROWS, rtol=1e-4)
    assert float(out.loss.mean()) == pytest.approx(LOSS, rel=1e-4)
    np.testing.assert_allclose(out.e[0, 0], TOKEN, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(out.e, out.z)
    assert out.e.shape == (1, 2, 12) and out.model == model
    assert set(params) == {"encoder", "projector", "decoder"}
    assert params["projector"] == {} and model == {"encoder": {}, "projector": {}}


def test_bfloat16_is_close_and_results_are_float32(world):
    _, params, model, _ = world
    loss = jax.jit(method(dtype="bfloat16").loss)
    narrow = loss(params, model, batch_of(IMAGES), jax.random.key(0))
    wide = jax.jit(method().loss)(params, model, batch_of(IMAGES), jax.random.key(0))
    for a, b in ((narrow.loss, wide.loss), (narrow.e, wide.e)):
        assert a.dtype == jnp.float32
        assert 0 < np.abs(a - b).max() < 0.05 * np.abs(b).max()


def test_the_encoder_sees_only_the_kept_patches(world):
    *_, run = world
    before = run(IMAGES, np.ones(2, bool), ORDER)
    for place in range(PATCHES):
        hidden = place in ORDER[0, KEPT:]
        r, c = 2 * (place // 4), 2 * (place % 4)
        x = IMAGES.copy()
        x[0, r : r + 2, c : c + 2] += 2.0
        after = run(x, np.ones(2, bool), ORDER)
        assert np.array_equal(after.e, before.e) == hidden
        assert after.loss[0] != before.loss[0]  # as a target, or as what is seen
        assert after.loss[1] == before.loss[1]


def test_masked_rows_do_not_exist(world):
    *_, run = world
    whole = run(IMAGES, np.ones(2, bool), ORDER)
    x = IMAGES.copy()
    x[1] = np.nan
    out = run(x, np.array([True, False]), ORDER)
    assert out.loss[0] == whole.loss[0] and out.loss[1] == 0
    np.testing.assert_array_equal(out.e[0, 0], whole.e[0, 0])
    np.testing.assert_array_equal(out.e[0, 1], 0)


def test_forward_encodes_the_whole_image(world):
    made, params, model, _ = world
    whole = vit().apply({"params": params["encoder"]}, IMAGES, train=False)
    for train in (True, False):
        seen = made.forward(params, model, jnp.asarray(IMAGES), train=train)
        np.testing.assert_allclose(seen.e, whole, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(seen.e, seen.z)
    assert made.views == 1 and made.distill is None


def test_pixel_loss_in_closed_form():
    target = uniform("target", (3, PATCHES, 12))
    hidden = np.asarray(shuffled(jax.random.key(0), 3, PATCHES)) >= KEPT
    assert (hidden.sum(axis=1) == PATCHES - KEPT).all()
    painted = np.where(hidden[:, :, None], target, 1e6)  # the seen ones do not count
    np.testing.assert_array_equal(pixel_loss(painted, target, hidden), 0)
    # Wrong by 2 in every hidden pixel: 4 on three quarters of them.
    rows = pixel_loss(painted + 2, target, hidden)
    np.testing.assert_allclose(rows, 4 * 0.75, rtol=1e-5)


def test_what_is_kept_goes_back_to_its_place():
    order = np.asarray(shuffled(jax.random.key(1), 5, PATCHES))
    np.testing.assert_array_equal(
        np.sort(order, axis=1), np.tile(np.arange(16), (5, 1))
    )
    tokens = uniform("tokens", (5, KEPT, 3))
    filler = np.array([7.0, 8.0, 9.0], np.float32)
    expected = np.tile(filler, (5, PATCHES, 1))
    for row in range(5):
        for i in range(KEPT):
            expected[row, order[row, i]] = tokens[row, i]
    np.testing.assert_array_equal(put_back(tokens, filler, order), expected)


def test_every_image_has_its_own_uniform_order():
    order = np.asarray(jax.jit(lambda k: shuffled(k, 4000, PATCHES))(jax.random.key(2)))
    assert len(np.unique(order, axis=0)) > 3990
    kept = np.bincount(order[:, :KEPT].ravel(), minlength=PATCHES)
    # Each patch is kept in a quarter of 4000 images, standard deviation 27.
    assert np.abs(kept - 1000).max() < 5 * 27


@pytest.mark.slow
def test_it_learns_beside_a_teacher():
    """Images of one grey value each: the hidden patches follow from the seen ones."""
    learning = tiny_learning(
        method__name="mae",
        strategy__name="climb",
        augment__name="none",
        optimizer__name="adam",
        optimizer__learning_rate=3e-3,
        strategy__align_weight=0.1,
    )
    grey = np.random.default_rng(0).integers(0, 256, (40, 4, 1, 1, 1), np.uint8)
    batches = [
        b._replace(image=jnp.broadcast_to(jnp.asarray(g), b.image.shape))
        for b, g in zip(stream(40, short=False), grey, strict=True)
    ]
    step = jax.jit(learning.step)
    state = jax.jit(learning.init)(jax.random.key(0), batches[0])
    losses = []
    for batch in batches:
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss_ssl"]))
    # Grey values have variance 0.9 after normalisation: the loss of a blind guess.
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:3])


@pytest.mark.parametrize("strategy", sorted(set(SSL) - TWO_VIEWS))
def test_every_strategy_of_one_view_takes_it(strategy):
    learning = tiny_learning(method__name="mae", strategy__name=strategy)
    first = next(stream(1))
    state = jax.eval_shape(learning.init, jax.random.key(0), first)
    after, _ = jax.eval_shape(learning.step, state, first)
    assert jax.tree.leaves(after) == jax.tree.leaves(state)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"backbone": Mlp(4, jnp.float32)}, "needs a ViT.*backbone.name=vit_tiny"),
        ({"mask_ratio": 0.95}, "leave some of the 16 patches.*leaves 0"),
        ({"heads": 5}, "decoder_heads must divide the ViT's width 12, got 5"),
    ],
)
def test_impossible_settings_are_told(fields, words):
    with pytest.raises(ValueError, match=words):
        method(**fields)
