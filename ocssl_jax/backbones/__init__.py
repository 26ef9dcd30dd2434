"""Networks, images to features: `make_backbone` builds one by its name.

Every network is a Linen module called as `(images [n h w c], *, train, mask=None)` and
returns features [n f] float32. To add one: a file here and a line in `BACKBONES`.
"""

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from ocssl_jax.backbones.convnet import ConvNet
from ocssl_jax.backbones.mlp import Mlp
from ocssl_jax.backbones.resnet import ResNet
from ocssl_jax.backbones.resnet9 import ResNet9

Factory = Callable[[int, int, DTypeLike], nn.Module]  # (image side, width, dtype)

SMALL_IMAGE = 32  # up to this side a ResNet starts without pooling


def _resnet(blocks: tuple[int, int, int, int], *, bottleneck: bool) -> Factory:
    return lambda side, width, dtype: ResNet(
        blocks, bottleneck, width, side <= SMALL_IMAGE, dtype
    )


def _any_size(network: Callable[[int, DTypeLike], nn.Module]) -> Factory:
    return lambda side, width, dtype: network(width, dtype)


_RESNET18 = _resnet((2, 2, 2, 2), bottleneck=False)

# name -> (factory, the width that the name stands for)
BACKBONES: dict[str, tuple[Factory, int]] = {
    "resnet18": (_RESNET18, 64),
    "slim_resnet18": (_RESNET18, 20),
    "wide_resnet18": (_RESNET18, 128),
    "resnet34": (_resnet((3, 4, 6, 3), bottleneck=False), 64),
    "resnet50": (_resnet((3, 4, 6, 3), bottleneck=True), 64),
    "resnet9": (_any_size(ResNet9), 64),
    "slim_resnet9": (_any_size(ResNet9), 20),
    "wide_resnet9": (_any_size(ResNet9), 128),
    "convnet": (_any_size(ConvNet), 32),
    "mlp": (_any_size(Mlp), 64),
}


def make_backbone(
    name: str, *, image_size: int, dtype: DTypeLike, width: int
) -> nn.Module:
    """Builds a network.

    Args:
      name: a key of `BACKBONES`.
      image_size: side of the images in pixels; decides the stem of the ResNets.
      dtype: of the computation, float32 or bfloat16; parameters are always float32.
      width: channels of the first layer; 0 means the width that the name stands for.

    Returns:
      A Linen module, images [n h w c] float32 -> features [n f] float32.

    Raises:
      ValueError: the name is unknown, or a size is out of range.
    """
    if name not in BACKBONES:
        known = ", ".join(sorted(BACKBONES))
        raise ValueError(f"unknown backbone {name!r}; choose one of {known}")
    if image_size < 1 or width < 0:
        raise ValueError(
            "a backbone needs image_size >= 1 and width >= 0 (0 = the network's own), "
            f"got image_size={image_size}, width={width}"
        )
    factory, own_width = BACKBONES[name]
    return factory(image_size, width or own_width, jnp.dtype(dtype))
