"""An encoder's weights for PyTorch, under timm's names, and the model they are of.

ResNets have torchvision's names too, which are the same; the class token of a ViT has
no place here and timm's has one, which becomes 0. Nothing is pickled: the tensors are
safetensors, and torch need not be installed to write them.
"""

import re

import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict

from ocssl_jax.backbones.resnet import ResNet
from ocssl_jax.backbones.vit import HEADS, Vit
from ocssl_jax.core import Variables
from ocssl_jax.errors import UsageError
from ocssl_jax.pretrained import torch_name

Tensors = dict[str, np.ndarray]

# (blocks, bottleneck) -> timm's model, whose first layer has 64 channels.
MODELS = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
}
WIDTH = 64
PARTS = {
    "attention.qkv": "attn.qkv",
    "attention.out": "attn.proj",
    "linear1": "mlp.fc1",
    "linear2": "mlp.fc2",
    "embed": "patch_embed.proj",
}
KINDS = {"kernel": "weight", "scale": "weight", "bias": "bias"}


def to_torch(module: nn.Module, variables: Variables) -> Tensors:
    """Tensors by name, kernels as [o i h w] and [o i].

    Raises:
      UsageError: if the network is neither a ResNet nor a ViT.
    """
    if isinstance(module, ResNet):
        return resnet_tensors(variables)
    if isinstance(module, Vit):
        return vit_tensors(module, variables)
    raise UsageError(
        f"--to torch is for the ResNets and the ViT, whose layers timm has; this run's "
        f"backbone is a {type(module).__name__}: --to stablehlo takes any"
    )


def resnet_tensors(variables: Variables) -> Tensors:
    """Of a ResNet."""
    leaves = flatten_dict({k: variables[k] for k in ("params", "batch_stats")})
    return {torch_name(leaf): turned(np.asarray(x)) for leaf, x in leaves.items()}


def vit_tensors(module: Vit, variables: Variables) -> Tensors:
    """Of a ViT."""
    flat = flatten_dict(variables["params"], sep=".")
    cls, place = np.asarray(flat.pop("cls")), np.asarray(flat.pop("place"))
    tensors = {vit_name(name): turned(np.asarray(x)) for name, x in flat.items()}
    patches, side = tensors["patch_embed.proj.weight"], module.patch  # [w p·p·c]
    patches = patches.reshape(module.width, side, side, -1).transpose(0, 3, 1, 2)
    places = np.concatenate([np.zeros_like(cls)[None], place])
    return tensors | {
        "patch_embed.proj.weight": np.ascontiguousarray(patches),
        "pos_embed": places[None],
        "cls_token": cls[None, None],
    }


def vit_name(name: str) -> str:
    """'block_0.attention.out.kernel' -> 'blocks.0.attn.proj.weight'."""
    layer, kind = re.sub(r"^block_", "blocks.", name).rsplit(".", 1)
    for ours, theirs in PARTS.items():
        layer = re.sub(rf"(^|\.){re.escape(ours)}$", rf"\1{theirs}", layer)
    return f"{layer}.{KINDS[kind]}"


def turned(x: np.ndarray) -> np.ndarray:
    """Outputs first, as torch has them."""
    axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(x.ndim, range(x.ndim))
    return np.ascontiguousarray(x.transpose(*axes))


def recipe(module: nn.Module, channels: int) -> str:
    """Python that makes the `model` these tensors are of, with timm and torch.

    It takes [n c h w] images normalised as `encoder.json` says and gives [n f].
    """
    if isinstance(module, Vit):
        return vit_recipe(module, channels)
    assert isinstance(module, ResNet)
    name = MODELS.get((module.blocks, module.bottleneck))
    if module.width != WIDTH or module.window or name is None:
        pooled = f", its features means over {module.window} x {module.window} places"
        return (
            f"# timm has no model for them: a ResNet {module.width} channels wide"
            f"{pooled if module.window else ''}, layers named as in resnet18"
        )
    lines = [
        "import timm, torch",
        f'model = timm.create_model("{name}", num_classes=0, in_chans={channels})',
    ]
    if module.small_stem:
        lines += [
            f"model.conv1 = torch.nn.Conv2d({channels}, {WIDTH}, 3, 1, "
            f"{module.padding}, bias=False)",
            "model.maxpool = torch.nn.Identity()",
        ]
    return "\n".join(lines)


def vit_recipe(module: Vit, channels: int) -> str:
    """The same of a ViT."""
    lines = [
        "from timm.models.vision_transformer import VisionTransformer",
        f"model = VisionTransformer(img_size={module.side}, patch_size={module.patch}, "
        f"in_chans={channels}, embed_dim={module.width}, depth={module.depth}, "
        f"num_heads={HEADS}, qkv_bias=False, num_classes=0, "
        f'global_pool="token")',
        "model.norm.eps = 1e-5",
    ]
    if module.pool == "mean":
        lines.append("model.pool = lambda tokens: tokens.mean(1)")
    return "\n".join(lines)
