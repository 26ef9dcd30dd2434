"""Weights from files: golden features of torchvision's ResNets, exact round trips."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from formula import torch_resnet, uniform
from ml_dtypes import bfloat16
from safetensors.numpy import save_file
from tiny import SHAPE, stream, tiny_config, tiny_learning

from ocssl_jax import settings
from ocssl_jax.backbones import make_backbone
from ocssl_jax.backbones.resnet import ResNet
from ocssl_jax.encoders import named
from ocssl_jax.errors import UsageError
from ocssl_jax.learning import backbone_of
from ocssl_jax.pretrained import pretrained

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}


def torch_shapes(blocks, *, bottleneck, small, width=64, channels=3):
    """Names and shapes of torchvision's ResNet without its classifier."""
    shapes = {}

    def conv(name, out, into, size):
        shapes[f"{name}.weight"] = (out, into, size, size)

    def norm(name, features):
        for kind in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{kind}"] = (features,)

    conv("conv1", width, channels, 3 if small else 7)
    norm("bn1", width)
    into = width
    for stage, count in enumerate(blocks, start=1):
        w = width * 2 ** (stage - 1)
        for i in range(count):
            layers = [(w, 1), (w, 3), (4 * w, 1)] if bottleneck else [(w, 3), (w, 3)]
            out, before = layers[-1][0], into
            block = f"layer{stage}.{i}"
            for k, (features, size) in enumerate(layers, start=1):
                conv(f"{block}.conv{k}", features, before, size)
                norm(f"{block}.bn{k}", features)
                before = features
            if i == 0 and (stage > 1 or out != into):
                conv(f"{block}.downsample.0", out, into, 1)
                norm(f"{block}.downsample.1", out)
            into = out
    return shapes


# Features 0, f/8, ..., 7f/8 of two images, and the mean of all, by a ResNet written
# anew in PyTorch 2.13 (Conv2d, BatchNorm2d in eval mode, float64) with torchvision's
# names, on the weights of `formula.torch_resnet` and the images `formula.uniform`.
GOLDEN = {
    ("resnet18", 32): (
        [
            [18.2636, 28.5797, 0.0, 10.5322, 15.3856, 18.4571, 6.3147, 0.554194],
            [21.4088, 25.3954, 0.0, 11.0647, 15.8883, 20.4558, 6.74927, 0.65714],
        ],
        10.38252,
    ),
    ("resnet18", 64): (
        [
            [20.7523, 36.8769, 0.527944, 19.0312, 11.8258, 14.6474, 1.75517, 2.25594],
            [16.2054, 31.6097, 0.0, 18.8412, 12.3407, 13.2933, 1.46091, 3.32392],
        ],
        14.54482,
    ),
    ("resnet50", 64): (
        [
            [404.238, 977.74, 636.165, 814.584, 283.181, 588.838, 677.32, 691.704],
            [437.163, 953.386, 573.445, 864.83, 262.769, 595.091, 648.759, 707.397],
        ],
        490.5134,
    ),
}


@pytest.mark.parametrize(("name", "side"), GOLDEN)
def test_golden_features_of_torchvision_files(name, side, tmp_path):
    bottleneck, small = name == "resnet50", side <= 32
    shapes = torch_shapes(BLOCKS[name], bottleneck=bottleneck, small=small)
    tensors = torch_resnet(shapes)
    for kind, shape in (("fc.weight", (1000, 512)), ("fc.bias", (1000,))):
        tensors[kind] = np.zeros(shape, np.float32)
    tensors["bn1.num_batches_tracked"] = np.asarray(7)
    save_file(tensors, tmp_path / "net.safetensors")
    config = tiny_config(backbone__name=name, backbone__width=0)
    module = backbone_of(config, image_size=side)
    start = pretrained(str(tmp_path / "net.safetensors"), module, shape=(side, side, 3))
    x = uniform("images", (2, side, side, 3))
    y = jax.jit(lambda v, x: module.apply(v, x, train=False))(start.variables, x)
    some, mean = GOLDEN[name, side]
    largest = np.abs(y).max()
    np.testing.assert_allclose(y[:, :: y.shape[1] // 8], some, atol=1e-4 * largest)
    assert float(y.mean()) == pytest.approx(mean, rel=1e-4)


# From here on: a ResNet of one block in each stage, four channels wide.
ONES = (1, 1, 1, 1)


def resnet(*, small=True, bottleneck=False):
    return ResNet(ONES, bottleneck, 4, small, jnp.float32)


def tensors_of(*, small=True, bottleneck=False, channels=1):
    shapes = torch_shapes(
        ONES, bottleneck=bottleneck, small=small, width=4, channels=channels
    )
    return torch_resnet(shapes)


def load(tmp_path, tensors, module=None):
    path = tmp_path / "net.safetensors"
    save_file(tensors, path)
    return pretrained(str(path), module or resnet(), shape=SHAPE)


@pytest.mark.parametrize(
    "prefix", ["encoder.", "online_encoder.", "backbone.", "module.encoder."]
)
def test_prefixes_and_wrappers_are_stripped(prefix, tmp_path):
    tensors = tensors_of()
    plain = load(tmp_path, tensors).variables
    wrapped = {prefix + name: x for name, x in tensors.items()} | {
        "fc.weight": np.zeros((3, 32), np.float32)
    }
    chex.assert_trees_all_equal(load(tmp_path, wrapped).variables, plain)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, bfloat16])
def test_other_precisions_become_float32(dtype, tmp_path):
    tensors = {name: x.astype(dtype) for name, x in tensors_of().items()}
    variables = load(tmp_path, tensors).variables
    chex.assert_type(jax.tree.leaves(variables), jnp.float32)
    kernel = variables["params"]["stem_conv"]["kernel"]
    expected = tensors["conv1.weight"].astype(np.float32).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel, expected)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny", "resnet9", "mlp"])
def test_an_export_comes_back_bit_for_bit(name, tmp_path):
    config = tiny_config(backbone__name=name, backbone__width=6, backbone__depth=1)
    module = backbone_of(config, image_size=8)
    key, x = jax.random.key(0), jnp.zeros((1, *SHAPE))
    like = jax.eval_shape(lambda: module.init(key, x, train=False))
    flat = flatten_dict({"batch_stats": {}} | like, sep=".", keep_empty_nodes=True)
    values = {
        n: uniform(n, leaf.shape) for n, leaf in flat.items() if hasattr(leaf, "shape")
    }
    start = load(tmp_path, values, module)
    assert set(start.variables) == {"params", "batch_stats"}
    back = {}
    for part, tree in start.init(key, x, train=False).items():
        back |= named(tree, part)
    assert back.keys() == values.keys()
    for n, expected in values.items():
        np.testing.assert_array_equal(back[n], expected)


@pytest.fixture(scope="module")
def learning_from_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    module = make_backbone(
        "resnet18",
        image_size=8,
        dtype="float32",
        width=2,
        depth=0,
        stem="auto",
        pool="cls",
    )
    shapes = torch_shapes(
        BLOCKS["resnet18"], bottleneck=False, small=True, width=2, channels=1
    )
    save_file(torch_resnet(shapes), path)
    learning = tiny_learning(
        backbone__name="resnet18",
        backbone__width=2,
        backbone__pretrained=str(path),
        strategy__name="cla_e",
    )
    return learning, pretrained(str(path), module, shape=SHAPE).variables


def test_the_learner_and_its_teacher_start_from_the_file(learning_from_file):
    learning, variables = learning_from_file
    init, first = jax.jit(learning.init), next(stream(1))
    states = [init(jax.random.key(seed), first) for seed in (0, 1)]
    for state in states:
        method = state.params["method"]
        chex.assert_trees_all_equal(method["encoder"], variables["params"])
        chex.assert_trees_all_equal(state.model["encoder"], variables["batch_stats"])
        teacher = state.strategy[1].teacher["encoder"]
        chex.assert_trees_all_equal(teacher, variables["params"])
    # Heads are drawn afresh.
    heads = [state.params["method"]["projector"]["linear3"] for state in states]
    assert not np.array_equal(*(head["kernel"] for head in heads))
    # Each state has buffers of its own: what donation frees is only one's.
    bump = jax.jit(lambda s: jax.tree.map(jnp.copy, s.params), donate_argnums=0)
    bump(states[0])
    chex.assert_trees_all_equal(
        states[1].params["method"]["encoder"], variables["params"]
    )
    again = init(jax.random.key(0), first)
    chex.assert_trees_all_equal(again.params["method"]["encoder"], variables["params"])
    keys = jnp.stack([jax.random.key(seed) for seed in (0, 1)])
    many = jax.jit(jax.vmap(learning.init, in_axes=(0, None)))(keys, first)
    encoder = jax.tree.map(lambda x: x[1], many.params["method"]["encoder"])
    chex.assert_trees_all_equal(encoder, variables["params"])


def test_mae_starts_its_vit_from_an_export(tmp_path):
    fields = {"method__name": "mae", "strategy__name": "none"}
    fresh = jax.jit(tiny_learning(**fields).init)
    first, path = next(stream(1)), tmp_path / "seed_0.safetensors"
    start = fresh(jax.random.key(0), first).params["method"]
    save_file(named(start["encoder"], "params"), path)
    loaded = jax.jit(tiny_learning(**fields, backbone__pretrained=str(path)).init)
    params = loaded(jax.random.key(1), first).params["method"]
    chex.assert_trees_all_equal(params["encoder"], start["encoder"])
    assert not np.array_equal(*(p["decoder"]["mask_token"] for p in (start, params)))


def without(tensors, *names):
    return {name: x for name, x in tensors.items() if name not in names}


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (without(tensors_of(), "layer2.0.bn1.bias"), "it lacks layer2.0.bn1.bias"),
        (
            without(tensors_of(), "bn1.running_var", "layer4.0.conv2.weight"),
            "it lacks layer4.0.conv2.weight, it lacks bn1.running_var",
        ),
        (
            tensors_of() | {"head.weight": np.zeros(3)},
            "does not fit the backbone: it has head.weight besides",
        ),
        (
            tensors_of(channels=3),
            re.escape("conv1.weight is [3, 3, 3, 4], not [3, 3, 1, 4]"),
        ),
        (tensors_of(small=False), r"--config.backbone.stem=large$"),
        (
            tensors_of(bottleneck=True),
            r"layer1.0.\w+.weight is .*, not .* and \d+ more$",
        ),
        (
            {"params.hidden.kernel": np.zeros((2, 2))},
            r"it lacks params.* and \d+ more$",
        ),
        (
            tensors_of() | {"bn1.weight": np.array([1, 1, np.nan, 1], np.float32)},
            "the backbone: bn1.weight is not finite$",
        ),
        (
            tensors_of() | {"bn1.weight": np.ones(4, np.int64)},
            "the backbone: bn1.weight is int64, no float$",
        ),
        ({}, r"it lacks layer1.0.conv1.weight, .* and \d+ more$"),
    ],
)
def test_a_file_of_another_network_is_refused_in_one_line(tensors, words, tmp_path):
    with pytest.raises(UsageError, match=words) as error:
        load(tmp_path, tensors)
    assert str(error.value).startswith("config.backbone.pretrained: ")
    assert "\n" not in str(error.value)


def test_a_small_stem_is_asked_for_and_then_fits(tmp_path):
    with pytest.raises(UsageError, match=r"--config.backbone.stem=small$"):
        load(tmp_path, tensors_of(), resnet(small=False))
    load(tmp_path, tensors_of(small=False), resnet(small=False))


def test_only_safetensors_are_read(tmp_path):
    with pytest.raises(UsageError, match=r"there is no file .*nowhere\.safe"):
        pretrained(str(tmp_path / "nowhere.safetensors"), resnet(), shape=SHAPE)
    pickled = tmp_path / "net.pth"
    pickled.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(UsageError, match=r"cannot be read as \.safe"):
        pretrained(str(pickled), resnet(), shape=SHAPE)
    save_file(tensors_of(), tmp_path / "net.safetensors")
    config = tiny_config(backbone__name="mlp")
    with pytest.raises(UsageError, match="ResNets only, and the backbone is a Mlp"):
        pretrained(
            str(tmp_path / "net.safetensors"),
            backbone_of(config, image_size=8),
            shape=SHAPE,
        )


def test_a_random_baseline_needs_random_weights():
    config = tiny_config()
    config.backbone.pretrained, config.baselines = "weights.safetensors", ("random",)
    with pytest.raises(UsageError, match="these are not random"):
        settings.resolve(config, {})
