"""Where each array of a CLIP lies in other libraries' files, and how it lies there.

Files of open_clip have a name of their own for each of our arrays, so that one table
goes both ways, bit for bit. Those of Hugging Face are put into open_clip's names first.
"""

import re
from collections.abc import Mapping

import numpy as np

Tensors = dict[str, np.ndarray]
Leaf = tuple[str, ...]  # where in the parameters: ('image', 'block_0', 'norm1', 'bias')

# Parts of a leaf -> parts of open_clip's name, the towers' own first.
IMAGE = {
    "embed": "conv1",
    "cls": "class_embedding",
    "place": "positional_embedding",
    "norm_before": "ln_pre",
    "norm_after": "ln_post",
    "projection": "proj",
}
TEXT = {
    "token": "token_embedding.weight",
    "place": "positional_embedding",
    "norm_after": "ln_final",
    "projection": "text_projection",
}
BLOCK = {
    "norm1": "ln_1",
    "norm2": "ln_2",
    "attention": "attn",
    "out": "out_proj",
    "linear1": "mlp.c_fc",
    "linear2": "mlp.c_proj",
    "scale": "weight",
    "kernel": "weight",
    "bias": "bias",
}
# These are one tensor in open_clip, with no part of the name for its kind.
WHOLE = {"qkv": {"kernel": "in_proj_weight", "bias": "in_proj_bias"}}

# Hugging Face's prefixes and modules -> open_clip's. 'pre_layrnorm' is so spelt there.
HUGGING_FACE = (
    (r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
    (
        r"^vision_model\.embeddings\.position_embedding\.weight$",
        "visual.positional_embedding",
    ),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^visual_projection\.weight$", "visual.proj"),
    (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^text_projection\.weight$", "text_projection"),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.self_attn\.out_proj\.", ".attn.out_proj."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)
QUERY = re.compile(r"^(.*)\.self_attn\.q_proj\.(weight|bias)$")
UNUSED = re.compile(r"(^|\.)(position_ids|attn_mask)$")
WRAPPERS = ("module.", "model.")


def open_clip_name(leaf: Leaf) -> str:
    """The name in open_clip's files of one of our arrays.

    ('image', 'block_3', 'attention', 'qkv', 'bias') ->
    'visual.transformer.resblocks.3.attn.in_proj_bias'.
    """
    if leaf == ("logit_scale",):
        return "logit_scale"
    tower, *parts = leaf
    own = IMAGE if tower == "image" else TEXT
    names = ["visual"] if tower == "image" else []
    if parts[-2:-1] == ["qkv"]:
        parts[-2:] = [WHOLE["qkv"][parts[-1]]]
    elif parts[0] == "projection":
        parts = parts[:1]
    for part in parts:
        if block := re.fullmatch(r"block_(\d+)", part):
            names += ["transformer", "resblocks", block[1]]
        else:
            names.append(own.get(part) or BLOCK.get(part, part))
    return ".".join(names)


def to_ours(name: str, tensor: np.ndarray) -> np.ndarray:
    """An open_clip tensor as our array: kernels as [inputs outputs].

    The patches' kernel [w c p p] becomes [p·p·c w], a patch read line by line.
    """
    if tensor.ndim == 4:
        return tensor.transpose(2, 3, 1, 0).reshape(-1, tensor.shape[0])
    return tensor.T if _turned(name, tensor) else tensor


def to_theirs(name: str, array: np.ndarray, patch: int) -> np.ndarray:
    """Our array seen as the open_clip tensor of that name."""
    if name == "visual.conv1.weight":
        width = array.shape[1]
        return array.reshape(patch, patch, -1, width).transpose(3, 2, 0, 1)
    return array.T if _turned(name, array) else array


def _turned(name: str, tensor: np.ndarray) -> bool:
    kernel = name.endswith(("weight", "in_proj_weight"))
    return tensor.ndim == 2 and kernel and name != "token_embedding.weight"


def is_hugging_face(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether the names are those of a `transformers.CLIPModel`."""
    return any(name.startswith("vision_model.") for name in tensors)


def unwrapped(tensors: Tensors) -> Tensors:
    """Without what wrappers put before each name, and without constant buffers.

    open_clip's variant that keeps the text tower in a module of its own has `text.`
    before the names of that tower.
    """
    kept = {name: x for name, x in tensors.items() if not UNUSED.search(name)}
    for prefix in WRAPPERS:
        if kept and all(name.startswith(prefix) for name in kept):
            kept = {name.removeprefix(prefix): x for name, x in kept.items()}
    return {name.removeprefix("text."): x for name, x in kept.items()}


def from_hugging_face(tensors: Tensors) -> Tensors:
    """The tensors of a `transformers.CLIPModel` under open_clip's names.

    Queries, keys and values become one tensor, the two projections are turned.
    """
    found = {}
    for name, tensor in tensors.items():
        if query := QUERY.match(name):
            block, kind = query.groups()
            names = [f"{block}.self_attn.{part}_proj.{kind}" for part in "qkv"]
            if all(part in tensors for part in names):
                tensor = np.concatenate([tensors[part] for part in names])
            name = f"{block}.attn.in_proj_{kind}"
        elif re.search(r"\.self_attn\.[kv]_proj\.", name):
            continue
        for theirs, ours in HUGGING_FACE:
            name = re.sub(theirs, ours, name)
        turned = name in ("visual.proj", "text_projection")
        found[name] = tensor.T if turned else tensor
    return found
