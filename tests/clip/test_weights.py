"""CLIP's files: round trips bit for bit, the same from both formats, clear refusals."""

import json
import resource

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from formula import uniform
from ml_dtypes import bfloat16
from safetensors.numpy import load_file, save_file
from small import CONFIG, SOURCES, folder, tensors

from ocssl_jax.clip.architecture import ARCHITECTURES, from_open_clip, to_open_clip
from ocssl_jax.clip.names import open_clip_name
from ocssl_jax.clip.towers import random_params, shapes_of
from ocssl_jax.clip.weights import WEIGHTS, load, read_architecture, save
from ocssl_jax.errors import UsageError


def same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        assert found[name].shape == x.shape and found[name].dtype == x.dtype, name
        assert found[name].tobytes() == np.ascontiguousarray(x).tobytes(), name


def round_trip(path, weights, config):
    """What `save` makes of what `load` made of `weights`."""
    path.mkdir()
    save_file(weights, path / WEIGHTS, metadata={"format": "pt"})
    (path / "open_clip_config.json").write_text(json.dumps(config))
    architecture, params = load(path)
    save(path / "out", architecture, params)
    assert load(path / "out")[0] == architecture
    return load_file(path / "out" / WEIGHTS)


def test_round_trip_is_bit_exact(tmp_path):
    weights = tensors("open_clip")
    weights["ln_final.bias"][0] = -0.0  # bits, not values
    found = round_trip(tmp_path / "a", weights, {"model_cfg": CONFIG})
    same_bits(found, weights)


@pytest.mark.slow
def test_round_trip_at_the_true_sizes(tmp_path):
    architecture = ARCHITECTURES["ViT-B-16"]
    # open_clip's names and shapes, written out here by hand.
    shapes = {"logit_scale": (), "token_embedding.weight": (49408, 512)}
    shapes |= {"positional_embedding": (77, 512), "text_projection": (512, 512)}
    shapes |= {"visual.class_embedding": (768,), "visual.proj": (768, 512)}
    shapes |= {"visual.positional_embedding": (197, 768)}
    shapes |= {"visual.conv1.weight": (768, 3, 16, 16)}
    norms = {"visual.ln_pre": 768, "visual.ln_post": 768, "ln_final": 512}
    for tower, w in (("visual.transformer", 768), ("transformer", 512)):
        for i in range(12):
            block = f"{tower}.resblocks.{i}"
            norms |= {f"{block}.ln_1": w, f"{block}.ln_2": w}
            shapes |= {f"{block}.attn.in_proj_weight": (3 * w, w)}
            shapes |= {f"{block}.attn.in_proj_bias": (3 * w,)}
            for name, (out, into) in {
                "attn.out_proj": (w, w),
                "mlp.c_fc": (4 * w, w),
                "mlp.c_proj": (w, 4 * w),
            }.items():
                shapes |= {f"{block}.{name}.weight": (out, into)}
                shapes |= {f"{block}.{name}.bias": (out,)}
    for name, w in norms.items():
        shapes |= {f"{name}.weight": (w,), f"{name}.bias": (w,)}
    assert len(shapes) == 302
    rng = np.random.default_rng(0)
    weights = {
        name: np.array(rng.standard_normal(shape, np.float32), order="C")
        for name, shape in shapes.items()
    }
    found = round_trip(tmp_path / "a", weights, to_open_clip(architecture))
    same_bits(found, weights)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak memory {peak / 2**20:.1f} GiB")


def test_both_formats_are_the_same_network(tmp_path):
    """Hugging Face's tensors, renamed and joined by hand, give the same parameters."""
    theirs = tensors("hugging_face")
    by_hand = {}
    for name in tensors("open_clip"):
        by_hand[name] = by_mapping(name, theirs)
    path = folder(tmp_path / "hf", "hugging_face", "gelu")
    direct = folder(tmp_path / "oc", "open_clip", "gelu", weights=by_hand)
    (a, ours), (b, expected) = load(path), load(direct)
    assert a == b
    same_bits(
        flatten_dict(jax.device_get(ours), sep="."),
        flatten_dict(jax.device_get(expected), sep="."),
    )


def by_mapping(name, theirs):
    """The open_clip tensor `name` of Hugging Face's tensors."""
    whole = {
        "logit_scale": "logit_scale",
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.positional_embedding": (
            "vision_model.embeddings.position_embedding.weight"
        ),
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
    }
    if name in whole:
        return theirs[whole[name]]
    turned = {
        "visual.proj": "visual_projection.weight",
        "text_projection": "text_projection.weight",
    }
    if name in turned:
        return theirs[turned[name]].T.copy()
    kind = name.rsplit(".", 1)[1]
    for norm, at in {
        "visual.ln_pre": "vision_model.pre_layrnorm",
        "visual.ln_post": "vision_model.post_layernorm",
        "ln_final": "text_model.final_layer_norm",
    }.items():
        if name == f"{norm}.{kind}":
            return theirs[f"{at}.{kind}"]
    tower = "vision_model" if name.startswith("visual.") else "text_model"
    i, rest = name.split("resblocks.")[1].split(".", 1)
    block = f"{tower}.encoder.layers.{i}"
    if rest.startswith("attn.in_proj_"):
        kind = rest.removeprefix("attn.in_proj_")
        parts = [theirs[f"{block}.self_attn.{p}_proj.{kind}"] for p in "qkv"]
        return np.concatenate(parts)
    for ours, at in {
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "attn.out_proj": "self_attn.out_proj",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }.items():
        if rest == f"{ours}.{kind}":
            return theirs[f"{block}.{at}.{kind}"]
    raise AssertionError(name)


@pytest.mark.parametrize("wrapper", ["module.", "text", "extra"])
def test_wrapped_names_are_read(tmp_path, wrapper):
    weights = tensors("open_clip")
    plain = load(folder(tmp_path / "a", "open_clip", "gelu"))[1]
    if wrapper == "text":  # open_clip's variant with a text module of its own
        own = lambda n: not n.startswith("visual.") and n != "logit_scale"
        weights = {("text." + n if own(n) else n): x for n, x in weights.items()}
    elif wrapper == "extra":
        weights["attn_mask"] = np.zeros((9, 9), np.float32)
    else:
        weights = {wrapper + name: x for name, x in weights.items()}
    found = load(folder(tmp_path / "b", "open_clip", "gelu", weights=weights))[1]
    same_bits(flatten_dict(found, sep="."), flatten_dict(plain, sep="."))


@pytest.mark.parametrize("dtype", [np.float16, bfloat16])
def test_half_precision_is_read_as_float32(tmp_path, dtype):
    weights = {name: x.astype(dtype) for name, x in tensors("open_clip").items()}
    params = load(folder(tmp_path / "a", "open_clip", "gelu", weights=weights))[1]
    found = np.asarray(params["text"]["place"])
    assert found.dtype == np.float32
    expected = weights["positional_embedding"].astype(np.float32)
    np.testing.assert_array_equal(found, expected)


def test_save_of_random_weights(tmp_path):
    architecture = ARCHITECTURES["micro"]
    params = random_params(jax.random.key(3), architecture)
    save(tmp_path, architecture, params)
    again, found = load(tmp_path)
    assert again == architecture
    same_bits(flatten_dict(jax.device_get(found)), flatten_dict(jax.device_get(params)))
    assert load_file(tmp_path / WEIGHTS)["logit_scale"].shape == ()


def test_names_are_those_of_open_clip():
    small = from_open_clip({"model_cfg": CONFIG}, source="here")
    names = {open_clip_name(leaf) for leaf in flatten_dict(shapes_of(small))}
    assert names == set(tensors("open_clip"))


def refused(path, match, architecture=None):
    with pytest.raises(UsageError, match=match) as caught:
        load(path, architecture)
    assert "\n" not in str(caught.value)


def test_wrong_files_are_refused_in_one_line(tmp_path):
    refused(tmp_path / "none.safetensors", "there is no file")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "has neither open_clip_model.safetensors nor")
    path = folder(tmp_path / "a", "open_clip", "gelu")
    config = (path / "open_clip_config.json").read_text()
    (path / "open_clip_config.json").unlink()
    refused(path, "neither open_clip_config.json nor config.json.*activation")
    (path / "open_clip_config.json").write_text("{")
    refused(path, "is no JSON")
    (path / "open_clip_config.json").write_text("[]")
    refused(path, "has no model_cfg: it is no configuration of a CLIP")
    (path / "open_clip_config.json").write_text(config)
    refused(path, "does not fit the network.* and ", ARCHITECTURES["micro"])
    weights = tensors("open_clip")
    for change, match in [
        ({"ln_final.bias": None}, "it lacks ln_final.bias"),
        ({"visual.head.weight": uniform("x", (2,))}, "it has visual.head.weight besi"),
        ({"visual.proj": uniform("x", (48, 9))}, r"visual.proj is \[48, 9\]"),
        ({"logit_scale": np.array(np.nan, np.float32)}, "logit_scale is not finite"),
    ]:
        kept = {n: x for n, x in {**weights, **change}.items() if x is not None}
        refused(folder(tmp_path / "b", "open_clip", "gelu", weights=kept), match)
    (path / WEIGHTS).write_bytes(b"not a header")
    refused(path, "cannot be read as .safetensors")


@pytest.mark.parametrize("source", SOURCES)
def test_other_networks_are_refused(tmp_path, source):
    path = folder(tmp_path / "a", source, "gelu")
    name = "open_clip_config.json" if source == "open_clip" else "config.json"
    config = json.loads((path / name).read_text())
    if source == "open_clip":
        config["model_cfg"]["vision_cfg"]["timm_model_name"] = "vit_base"
        match = "timm_model_name = 'vit_base' is another kind of network"
    else:
        config["text_config"]["hidden_act"] = "quick_gelu"
        match = "hidden_act must be the same in both towers"
    (path / name).write_text(json.dumps(config))
    refused(path, match)


def test_a_tower_that_a_file_tells_twice_is_the_older_way_s(tmp_path):
    """As transformers reads it: without this the activation would be another."""
    path = folder(tmp_path / "a", "hugging_face", "gelu")
    config = json.loads((path / "config.json").read_text())
    for tower in ("text", "vision"):
        config[f"{tower}_config_dict"] = config[f"{tower}_config"]
        config[f"{tower}_config"] = {"hidden_size": 768}
    (path / "config.json").write_text(json.dumps(config))
    plain = read_architecture(folder(tmp_path / "b", "hugging_face", "gelu"))
    assert read_architecture(path) == plain and plain.activation == "gelu"
    config |= {"text_config_dict": None, "vision_config_dict": None}
    (path / "config.json").write_text(json.dumps(config))
    assert read_architecture(path).text.width == 768
