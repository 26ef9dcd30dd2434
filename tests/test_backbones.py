"""Backbones: sizes known from torchvision, starting weights, masks end to end."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from marks import slow_but

from ocssl_jax.backbones import BACKBONES, make_backbone
from ocssl_jax.backbones.resnet import Block, ResNet
from ocssl_jax.backbones.resnet9 import ResNet9


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """Compile time is most of this file's; the numbers hold without optimisation."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


SMALL = ("resnet18", "resnet50", "resnet9", "convnet", "mlp")  # one of each kind


def build(name, side=8, width=3, dtype="float32", depth=0, stem="auto", pool="cls"):
    return make_backbone(
        name,
        image_size=side,
        dtype=dtype,
        width=width,
        depth=depth,
        stem=stem,
        pool=pool,
    )


def tiny(kind, dtype="float32"):
    """A network of each kind that compiles fast; two stages show all of a ResNet."""
    if kind in ("resnet18", "resnet50"):
        bottleneck = kind == "resnet50"
        return ResNet((1, 1, 0, 0), bottleneck, 2, True, jnp.dtype(dtype))
    if kind == "vit_tiny":
        return build(kind, 8, 12, dtype, depth=2)
    return build(kind, 8, 2, dtype)


def start(module, x):
    """Variables in one compiled call, faster than layer by layer."""
    return jax.jit(lambda: module.init(jax.random.key(0), x, train=False))()


def shapes(name, side, width=0, channels=3):
    """Abstract variables and features of two images: nothing is computed."""
    module = build(name, side, width)
    x = jnp.zeros((2, side, side, channels))
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), x, train=False))
    y = jax.eval_shape(lambda v: module.apply(v, x, train=False), variables)
    return variables, y


def activations(module, side, channels=3):
    """Layer name -> shape of its output for one image."""
    x = jnp.zeros((1, side, side, channels))
    run = lambda: module.init_with_output(
        jax.random.key(0), x, train=False, capture_intermediates=True
    )[1]["intermediates"]
    flat = jax.tree_util.tree_leaves_with_path(jax.eval_shape(run))
    return {path[0].key: leaf.shape for path, leaf in flat if len(path) == 3}


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


# torchvision's totals less the classifier (f x 1000 + 1000), ImageNet stem:
# 11,689,512 - 513,000; 21,797,672 - 513,000; 25,557,032 - 2,049,000.
TORCHVISION = {"resnet18": 11_176_512, "resnet34": 21_284_672, "resnet50": 23_508_032}


@pytest.mark.parametrize("name", TORCHVISION)
def test_parameter_counts_equal_torchvision(name):
    large, _ = shapes(name, 224)
    assert count(large["params"]) == TORCHVISION[name]
    small, _ = shapes(name, 32)
    assert count(small["params"]) == TORCHVISION[name] - 3 * 64 * (49 - 9)


def test_resnet9_parameter_count_by_hand():
    w = 64
    layers = [(3, w), (w, 2 * w), (2 * w, 2 * w), (2 * w, 2 * w)]
    layers += [(2 * w, 4 * w), (4 * w, 8 * w), (8 * w, 8 * w), (8 * w, 8 * w)]
    expected = sum(9 * i * o + 3 * o for i, o in layers)  # bias, scale, bias
    assert count(shapes("resnet9", 32)[0]["params"]) == expected


FEATURES = {
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "slim_resnet18": 160,
    "reduced_resnet18": 160,
    "wide_resnet18": 1024,
    "resnet9": 512,
    "slim_resnet9": 160,
    "wide_resnet9": 1024,
    "convnet": 128,
    "mlp": 64,
    "gated_mlp": 64,
    "vit_tiny": 192,
    "clip_micro": 64,
    "clip_vit_b16": 768,
    "clip_vit_b16_quickgelu": 768,
    "clip_vit_b32": 768,
    "clip_vit_b32_quickgelu": 768,
}


@pytest.mark.parametrize("name", BACKBONES)
def test_feature_dimension_and_dtype(name):
    for side in (32, 64):
        _, y = shapes(name, side)
        # The one network whose features are of more than one place in larger images.
        places = (side // 32) ** 2 if name == "reduced_resnet18" else 1
        assert (y.shape, y.dtype) == ((2, places * FEATURES[name]), jnp.float32)


def test_the_reduced_resnet_needs_a_window_of_places():
    shapes("reduced_resnet18", 25)
    with pytest.raises(ValueError, match="images of at least 25 pixels, got 24"):
        build("reduced_resnet18", 24)


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (28, 1), (32, 3)])
@pytest.mark.parametrize("name", SMALL)
def test_all_image_sizes_work(name, side, channels):
    shapes(name, side, 4, channels)


def test_spatial_sizes_of_both_resnet_stems():
    small = activations(build("resnet18", 32), 32)
    assert small["stem_conv"] == (1, 32, 32, 3)
    sides = [small[f"stage{s}_block2"][1] for s in (1, 2, 3, 4)]
    assert sides == [32, 16, 8, 4]
    assert [small[f"stage{s}_block2"][3] for s in (1, 2, 3, 4)] == [3, 6, 12, 24]
    padded = activations(build("resnet18", 32, stem="padded"), 32)  # solo-learn's
    assert padded["stem_conv"] == (1, 34, 34, 3)
    assert [padded[f"stage{s}_block2"][1] for s in (1, 2, 3, 4)] == [34, 17, 9, 5]
    large = activations(build("resnet18", 224), 224)
    assert large["stem_conv"][1] == 112
    assert [large[f"stage{s}_block2"][1] for s in (1, 2, 3, 4)] == [56, 28, 14, 7]


def test_the_stem_follows_the_image_unless_asked_for():
    kernel = lambda **asked: activations(build("resnet18", **asked), asked["side"])
    assert kernel(side=16, stem="large")["stem_conv"][1] == 8
    assert kernel(side=64, stem="small")["stem_conv"][1] == 64
    assert build("resnet18", 32) == build("resnet18", 32, stem="small")
    assert build("resnet18", 33) == build("resnet18", 33, stem="large")


def test_spatial_sizes_of_convnet_and_resnet9():
    for side, end in ((8, 1), (28, 4), (32, 4)):
        assert activations(build("convnet", side), side)["conv4"][1] == end
    nine = activations(build("resnet9", 32), 32)
    assert [nine[f"layer{i}_conv"][1] for i in (1, 2, 3, 4)] == [32, 32, 16, 8]
    assert nine["residual2b_conv"][1:] == (4, 4, 24)


def test_bottleneck_strides_on_the_three_by_three():
    block = Block(4, 2, True, jnp.float32)
    seen = activations(block, 8)
    assert (seen["conv1"][1], seen["conv2"][1], seen["conv3"]) == (8, 4, (1, 4, 4, 16))


def test_resnet_initial_weights():
    module = build("resnet18", 64, 16)
    x = jnp.zeros((1, 64, 64, 3))
    params = start(module, x)["params"]
    blocks = {k: v for k, v in params.items() if k.startswith("stage")}
    assert len(blocks) == 8
    for block in blocks.values():
        assert not np.any(block["norm2"]["scale"])
        assert np.all(np.asarray(block["norm1"]["scale"]) == 1)
        if "shortcut_norm" in block:
            assert np.all(np.asarray(block["shortcut_norm"]["scale"]) == 1)
        kernel = np.asarray(block["conv1"]["kernel"])
        fan_out = 9 * kernel.shape[3]
        assert kernel.std() == pytest.approx((2 / fan_out) ** 0.5, rel=0.06)
        assert np.abs(kernel).max() > 2.5 * kernel.std()  # normal, not uniform
    stem = np.asarray(params["stem_conv"]["kernel"])
    assert stem.shape == (7, 7, 3, 16)
    assert stem.std() == pytest.approx((2 / (49 * 16)) ** 0.5, rel=0.06)


def test_small_stem_and_resnet9_start_uniform():
    small = ResNet((0, 0, 0, 0), False, 64, build("resnet18", 32).small_stem, "float32")
    x = jnp.zeros((1, 32, 32, 3))
    stem = start(small, x)
    kernel = np.asarray(stem["params"]["stem_conv"]["kernel"])
    assert kernel.shape == (3, 3, 3, 64)
    assert 0.98 * 27**-0.5 < np.abs(kernel).max() <= 27**-0.5
    nine = start(build("resnet9", 8, 8), x[:, :8, :8])
    layer = nine["params"]["layer2_conv"]  # 8 channels in: fan 72
    for leaf in layer.values():
        assert 0.8 * 72**-0.5 < np.abs(leaf).max() <= 72**-0.5
    scales = [v["scale"] for k, v in nine["params"].items() if k.endswith("norm")]
    assert len(scales) == 8 and all(np.all(np.asarray(s) == 1) for s in scales)


@pytest.mark.parametrize("bottleneck", [False, True])
def test_residual_block_starts_as_the_identity(bottleneck):
    x = jax.random.uniform(jax.random.key(1), (2, 4, 4, 8))  # >= 0, as after a ReLU
    block = Block(2 if bottleneck else 8, 1, bottleneck, jnp.float32)
    variables = start(block, x)
    y, _ = block.apply(variables, x, train=True, mutable=["batch_stats"])
    chex.assert_trees_all_equal(y, x)
    # Any other scale makes the branch speak.
    params = jax.tree.map(lambda p: p + 0.5, variables["params"])
    assert not np.allclose(
        block.apply({**variables, "params": params}, x, train=False), x
    )


def test_resnet9_takes_the_global_maximum():
    module = ResNet9(2, jnp.float32)
    x = jax.random.normal(jax.random.key(1), (1, 16, 16, 3))
    variables = start(module, x)
    y, seen = module.apply(variables, x, train=False, capture_intermediates=True)
    inner = seen["intermediates"]
    before = jax.nn.relu(inner["layer4_norm"]["__call__"][0])
    pooled = nn.max_pool(before, (2, 2), (2, 2))
    last = pooled + jax.nn.relu(inner["residual2b_norm"]["__call__"][0])
    assert last.shape == (1, 2, 2, 16)
    np.testing.assert_allclose(y, last.max((1, 2)), rtol=1e-6)


def test_resnet_takes_the_global_mean():
    module = tiny("resnet18")
    x = jax.random.normal(jax.random.key(1), (1, 8, 8, 3))
    variables = start(module, x)
    y, seen = module.apply(variables, x, train=False, capture_intermediates=True)
    last = seen["intermediates"]["stage2_block1"]["__call__"][0]
    assert last.shape == (1, 4, 4, 4)
    np.testing.assert_allclose(y, last.mean((1, 2)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name", slow_but(["convnet", "vit_tiny"], [*SMALL, "vit_tiny"])
)
def test_masked_rows_do_not_exist(name):
    """Features, gradients and statistics equal those of the real rows alone."""
    module = tiny(name)
    x = jax.random.normal(jax.random.key(1), (5, 8, 8, 1))
    mask = np.array([True, False, True, True, False])
    variables = start(module, x)
    # Move the scales off zero, so that the residual branches take part.
    variables["params"] = jax.tree.map(lambda p: p + 0.1, variables["params"])

    def loss(params, x, mask):
        e, new = module.apply(
            {**variables, "params": params},
            x,
            train=True,
            mask=mask,
            mutable=["batch_stats"],
        )
        return jnp.sum(jnp.sin(e)), (e, new)

    run = jax.jit(jax.grad(loss, has_aux=True))
    dp, (e, new) = run(variables["params"], x.at[1].set(jnp.nan).at[4].set(50.0), mask)
    dp_few, (e_few, new_few) = run(variables["params"], x[mask], None)
    close = {"rtol": 5e-3, "atol": 5e-4}
    chex.assert_trees_all_close(e[mask], e_few, **close)
    chex.assert_trees_all_close(dp, dp_few, **close)
    chex.assert_trees_all_close(new, new_few, **close)
    chex.assert_trees_all_equal(e[~mask], jnp.zeros_like(e[~mask]))
    same = run(variables["params"], x.at[1].set(3.0).at[4].set(-3.0), mask)
    chex.assert_trees_all_equal(same, (dp, (e, new)))


@pytest.mark.parametrize("name", [*SMALL, "vit_tiny"])
def test_bfloat16_is_close_and_parameters_stay_float32(name):
    x = jax.random.normal(jax.random.key(1), (4, 8, 8, 1))
    narrow, wide = tiny(name, "bfloat16"), tiny(name, "float32")
    variables = start(narrow, x)
    chex.assert_type(jax.tree.leaves(variables), jnp.float32)
    y = jax.jit(lambda v: narrow.apply(v, x, train=False))(variables)
    expected = jax.jit(lambda v: wide.apply(v, x, train=False))(variables)
    chex.assert_type(y, jnp.float32)
    assert 0 < np.abs(y - expected).max() < 0.05 * np.abs(expected).max() + 0.01


def test_eval_mode_leaves_statistics_and_train_mode_moves_them():
    module = tiny("resnet18")
    x = 1 + jax.random.normal(jax.random.key(1), (4, 8, 8, 1))
    variables = start(module, x)
    run = jax.jit(
        lambda v, train: module.apply(v, x, train=train, mutable=["batch_stats"])[1],
        static_argnums=1,
    )
    before = variables["batch_stats"]
    chex.assert_trees_all_equal(run(variables, False)["batch_stats"], before)
    after = run(variables, True)["batch_stats"]
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, after)
    assert all(jax.tree.leaves(moved))


def test_width_scales_and_zero_is_the_own_width():
    assert shapes("convnet", 8, 0)[1].shape == (2, 128)
    assert shapes("convnet", 8, 8)[1].shape == (2, 32)
    assert shapes("resnet18", 8, 5)[1].shape == (2, 40)


def test_bad_requests_say_what_is_allowed():
    with pytest.raises(ValueError, match=r"resnet19.*convnet.*slim_resnet18"):
        build("resnet19")
    with pytest.raises(ValueError, match="image_size >= 1"):
        build("resnet18", 0)
    with pytest.raises(ValueError, match="width >= 0"):
        build("resnet18", 8, -1)
    with pytest.raises(ValueError, match="depth >= 0"):
        build("vit_tiny", 8, 12, depth=-1)
    with pytest.raises(ValueError, match="stem must be one of auto, small, padded"):
        build("mlp", stem="medium")
    with pytest.raises(ValueError, match="pool must be one of cls, mean"):
        build("mlp", pool="max")
    with pytest.raises(ValueError, match="8x8 or more"):
        shapes("resnet9", 4, 2)
