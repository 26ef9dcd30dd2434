"""The ViT: its size in closed form, golden features, tokens and what they depend on."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from formula import uniform, vit_part

from ocssl_jax.backbones import make_backbone
from ocssl_jax.backbones.vit import patch_side, patchify


def vit(side=8, width=12, depth=2, pool="cls"):
    return make_backbone(
        "vit_tiny",
        image_size=side,
        dtype="float32",
        width=width,
        depth=depth,
        stem="auto",
        pool=pool,
    )


def like(module, channels=3):
    x = jnp.zeros((1, module.side, module.side, channels))
    return jax.eval_shape(lambda: module.init(jax.random.key(0), x, train=False))


def formula(module, part="encoder"):
    """The module's parameters by formula."""
    flat = flatten_dict(like(module)["params"], sep=".")
    arrays = {n: vit_part(f"{part}.{n}", leaf.shape) for n, leaf in flat.items()}
    return unflatten_dict(arrays, sep=".")


@pytest.mark.parametrize(("width", "depth"), [(0, 0), (12, 2)])
@pytest.mark.parametrize(("side", "patch"), [(8, 2), (32, 2), (64, 4), (224, 16)])
def test_parameters_in_closed_form(width, depth, side, patch):
    module = vit(side, width, depth)
    w, blocks = width or 192, depth or 12
    assert module.patch == patch and module.patches == (side // patch) ** 2
    embed = 3 * patch**2 * w + w
    tokens = module.patches * w + w  # a place for each patch, none for the class token
    # Per block: qkv 3w², out w² + w, perceptron 8w² + 5w, two norms 4w.
    expected = embed + tokens + blocks * (12 * w * w + 10 * w) + 2 * w
    variables = like(module)
    assert set(variables) == {"params"}  # no statistics
    assert sum(x.size for x in jax.tree.leaves(variables)) == expected


def test_patches_of_every_size():
    sides = {2: 2, 8: 2, 28: 2, 32: 2, 64: 4, 96: 8, 128: 8, 224: 16, 256: 16}
    for side, patch in sides.items():
        assert patch_side(side) == patch
    for side in (1, 27, 62, 100, 225):
        with pytest.raises(
            ValueError, match=f"multiple of the ViT's patch.*got {side}"
        ):
            vit(side)
    with pytest.raises(ValueError, match="multiple of its 3 heads, got 64"):
        vit(width=64)
    with pytest.raises(AssertionError):
        vit(8).init(jax.random.key(0), jnp.zeros((1, 8, 4, 3)), train=False)


def test_patches_are_read_line_by_line():
    x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    got = patchify(jnp.asarray(x), 2)
    assert got.shape == (2, 6, 12)
    for j in range(6):
        r, c = 2 * (j // 3), 2 * (j % 3)
        np.testing.assert_array_equal(
            got[:, j], x[:, r : r + 2, c : c + 2].reshape(2, -1)
        )


# Every 24th feature of two 8x8 images, by a ViT written anew in PyTorch 2.13 from its
# layers (Conv2d, Linear, LayerNorm, softmax), in float64, on the weights of `formula`.
CLS = [
    [-0.752437, -1.93292, -0.737574, 0.0166393, 0.908483, 1.08837, -0.444864, -1.76089],
    [-1.28514, -1.7425, -0.454882, 0.361474, 1.17385, 1.04013, -0.235813, -0.893968],
]
MEAN = [
    [-1.0555, -1.98107, -0.564201, 0.258576, 0.757209, 0.575334, -0.576106, -1.63497],
    [-1.65306, -1.69428, -0.234283, 0.194333, 0.965231, 0.659979, -0.296668, -1.01884],
]


def test_golden_features():
    x = uniform("images", (2, 8, 8, 3))
    module = vit(width=0, depth=0)
    params = formula(module)
    for pool, expected in (("cls", CLS), ("mean", MEAN)):
        pooled = module.clone(pool=pool)
        y = jax.jit(lambda p, x, m=pooled: m.apply({"params": p}, x, train=False))(
            params, x
        )
        assert y.shape == (2, 192) and y.dtype == jnp.float32
        np.testing.assert_allclose(y[:, ::24], expected, rtol=2e-4, atol=2e-4)


def test_tokens_of_kept_patches():
    """All patches in another order give the same class token; hidden ones no trace."""
    module = vit()
    params = {"params": formula(module)}
    x = jnp.asarray(uniform("images", (2, 8, 8, 3)))
    encode = jax.jit(lambda x, kept: module.apply(params, x, kept, method="tokens"))
    whole = jax.jit(lambda x: module.apply(params, x, method="tokens"))(x)
    order = jnp.asarray(
        np.random.default_rng(0).permuted(np.tile(np.arange(16), (2, 1)), axis=1)
    )
    shuffled = encode(x, order)
    np.testing.assert_allclose(shuffled[:, 0], whole[:, 0], rtol=1e-4, atol=1e-5)
    back = jnp.take_along_axis(shuffled[:, 1:], jnp.argsort(order, 1)[:, :, None], 1)
    np.testing.assert_allclose(back, whole[:, 1:], rtol=1e-4, atol=1e-5)

    few = encode(x, order[:, :5])
    assert few.shape == (2, 6, 12)
    # The first image's patch order[0, 5] is hidden, order[0, 4] is not.
    for place, seen in ((order[0, 5], False), (order[0, 4], True)):
        r, c = 2 * (int(place) // 4), 2 * (int(place) % 4)
        other = encode(x.at[0, r : r + 2, c : c + 2].add(3.0), order[:, :5])
        assert np.array_equal(other[0], few[0]) != seen
        chex.assert_trees_all_equal(other[1], few[1])


def test_initial_weights():
    module = vit(width=48, depth=1)
    x = jnp.zeros((1, 8, 8, 3))
    params = jax.jit(lambda: module.init(jax.random.key(0), x, train=False))()["params"]
    # U(-1/sqrt(fan), 1/sqrt(fan)), weights and biases, as PyTorch's layers start.
    block = params["block_0"]
    for layer, fan in (
        (params["embed"], 12),
        (block["attention"]["qkv"], 48),
        (block["attention"]["out"], 48),
        (block["linear1"], 48),
        (block["linear2"], 192),
    ):
        for leaf in layer.values():
            assert 0.8 * fan**-0.5 < np.abs(leaf).max() <= fan**-0.5
    assert "bias" not in block["attention"]["qkv"]
    assert np.asarray(params["place"]).std() == pytest.approx(0.02, rel=0.1)
    assert np.asarray(params["cls"]).std() == pytest.approx(0.02, rel=0.4)
    assert np.all(np.asarray(block["norm1"]["scale"]) == 1)
