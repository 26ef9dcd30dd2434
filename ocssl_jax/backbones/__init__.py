"""Networks, images to features: `make_backbone` builds one by its name.

Every network is a Linen module called as `(images [n h w c], *, train, mask=None)` and
returns features [n f] float32. To add one: a file here and a line in `BACKBONES`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from ocssl_jax.backbones.clip_vit import ImageEncoder
from ocssl_jax.backbones.convnet import ConvNet
from ocssl_jax.backbones.gated import GatedMlp
from ocssl_jax.backbones.mlp import Mlp
from ocssl_jax.backbones.resnet import ResNet
from ocssl_jax.backbones.resnet9 import ResNet9
from ocssl_jax.backbones.vit import POOLS, vit_tiny
from ocssl_jax.clip.architecture import ARCHITECTURES

SMALL_IMAGE = 32  # up to this side a ResNet starts without pooling
BELOW_WINDOW = 24  # pixels; up to here an eighth of the side is less than a window
STEMS = ("auto", "small", "padded", "large")


class Wanted(NamedTuple):
    """What a network is asked to be; each kind reads what concerns it."""

    image_size: int
    width: int
    depth: int
    stem: str
    pool: str
    dtype: DTypeLike


Factory = Callable[[Wanted], nn.Module]


def _resnet(blocks: tuple[int, int, int, int], *, bottleneck: bool) -> Factory:
    def make(wanted: Wanted) -> nn.Module:
        fits_small = wanted.stem == "auto" and wanted.image_size <= SMALL_IMAGE
        small = wanted.stem in ("small", "padded") or fits_small
        padding = 2 if wanted.stem == "padded" else 1
        return ResNet(blocks, bottleneck, wanted.width, small, wanted.dtype, padding)

    return make


def _reduced_resnet18(wanted: Wanted) -> nn.Module:
    """The network of GEM, MIR and much of online continual learning since.

    Not torchvision's: layers start as PyTorch's do by themselves, the stem has no pool
    whatever the size of the images, and features are means over 4 x 4 places.
    """
    if wanted.image_size <= BELOW_WINDOW:
        raise ValueError(
            f"reduced_resnet18 is for images of at least {BELOW_WINDOW + 1} pixels, "
            f"got {wanted.image_size}"
        )
    blocks = (2, 2, 2, 2)
    return ResNet(
        blocks, False, wanted.width, True, wanted.dtype, untuned=True, window=4
    )


def _any_size(network: Callable[[int, DTypeLike], nn.Module]) -> Factory:
    return lambda wanted: network(wanted.width, wanted.dtype)


def _vit_tiny(wanted: Wanted) -> nn.Module:
    return vit_tiny(
        image_size=wanted.image_size,
        width=wanted.width,
        depth=wanted.depth,
        pool=wanted.pool,
        dtype=wanted.dtype,
    )


def _clip(name: str) -> tuple[Factory, int]:
    """The image tower of one of CLIP's architectures, whose sizes cannot be changed."""
    architecture = ARCHITECTURES[name]
    own = architecture.image.width

    def make(wanted: Wanted) -> nn.Module:
        if wanted.width != own or wanted.depth:
            raise ValueError(
                f"the sizes of CLIP's {name} are its own: width and depth must be 0, "
                f"got {wanted.width} and {wanted.depth}"
            )
        return ImageEncoder(architecture, wanted.dtype)

    return make, own


def _one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{what} must be one of {', '.join(allowed)}, got {value!r}")


_RESNET18 = _resnet((2, 2, 2, 2), bottleneck=False)

# The image towers of CLIP, by their architectures.
CLIPS = {
    "clip_micro": "micro",  # for tests and two cores; nobody publishes weights
    "clip_vit_b16": "ViT-B-16",
    "clip_vit_b16_quickgelu": "ViT-B-16-quickgelu",
    "clip_vit_b32": "ViT-B-32",
    "clip_vit_b32_quickgelu": "ViT-B-32-quickgelu",
}

# name -> (factory, the width that the name stands for)
BACKBONES: dict[str, tuple[Factory, int]] = {
    "resnet18": (_RESNET18, 64),
    "slim_resnet18": (_RESNET18, 20),
    "reduced_resnet18": (_reduced_resnet18, 20),
    "wide_resnet18": (_RESNET18, 128),
    "resnet34": (_resnet((3, 4, 6, 3), bottleneck=False), 64),
    "resnet50": (_resnet((3, 4, 6, 3), bottleneck=True), 64),
    "resnet9": (_any_size(ResNet9), 64),
    "slim_resnet9": (_any_size(ResNet9), 20),
    "wide_resnet9": (_any_size(ResNet9), 128),
    "convnet": (_any_size(ConvNet), 32),
    "mlp": (_any_size(Mlp), 64),
    "gated_mlp": (_any_size(GatedMlp), 64),
    "vit_tiny": (_vit_tiny, 192),
    **{name: _clip(own) for name, own in CLIPS.items()},
}


# No convolution, and small: weights of its own, vmapped, make batched matrix products.
DENSE = frozenset({"mlp", "gated_mlp", "vit_tiny"})


def make_backbone(
    name: str,
    *,
    image_size: int,
    dtype: DTypeLike,
    width: int,
    depth: int,
    stem: str,
    pool: str,
) -> nn.Module:
    """Builds a network.

    Args:
      name: a key of `BACKBONES`.
      image_size: side of the images in pixels; decides the stem of the ResNets and the
        patches of the ViT.
      dtype: of the computation, float32 or bfloat16; parameters are always float32.
      width: channels of the first layer; 0 means the width that the name stands for.
      depth: of a ViT, its blocks; 0 means the depth that the name stands for.
      stem: of a ResNet, 'small' (3x3, no pooling), 'padded' (the same with two pixels
        around the image), 'large' (7x7, pooling) or 'auto', which is small for images
        of at most 32 pixels.
      pool: of a ViT, what its features are: 'cls' or 'mean'.

    Returns:
      A Linen module, images [n h w c] float32 -> features [n f] float32.

    Raises:
      ValueError: the name is unknown, or a size is out of range.
    """
    if name not in BACKBONES:
        known = ", ".join(sorted(BACKBONES))
        raise ValueError(f"unknown backbone {name!r}; choose one of {known}")
    if image_size < 1 or width < 0 or depth < 0:
        raise ValueError(
            "a backbone needs image_size >= 1, width >= 0 and depth >= 0 (0 = the "
            f"network's own), got image_size={image_size}, width={width}, depth={depth}"
        )
    _one_of("stem", stem, STEMS)
    _one_of("pool", pool, POOLS)
    factory, own_width = BACKBONES[name]
    dtype = jnp.dtype(dtype)
    return factory(Wanted(image_size, width or own_width, depth, stem, pool, dtype))
