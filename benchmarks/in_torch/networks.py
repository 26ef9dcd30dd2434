"""The networks, layer for layer those of ocssl_jax, under the same names.

So our parameters fit by their paths: 'encoder/norm1/scale' is 'encoder.norm1.weight'.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = {"convnet": 32, "slim_resnet18": 20, "resnet18": 64, "wide_resnet18": 128}


class Mean(nn.Module):
    """The global mean over places."""

    def forward(self, x: Tensor) -> Tensor:
        """[n c h w] -> [n c]."""
        return x.mean(dim=(2, 3))


class Block(nn.Module):
    """ResNet's basic block."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1 = conv(inputs, width, 3, stride)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3, 1)
        self.norm2 = nn.BatchNorm2d(width)
        self.same = inputs == width and stride == 1
        if not self.same:
            self.shortcut_conv = conv(inputs, width, 1, stride)
            self.shortcut_norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """[n c h w] -> [n c' h/stride w/stride]."""
        y = functional.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        short = x if self.same else self.shortcut_norm(self.shortcut_conv(x))
        return functional.relu(short + y)


def conv(inputs: int, outputs: int, size: int, stride: int) -> nn.Module:
    """Square, padded by size // 2, without bias."""
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


def named(**layers: nn.Module) -> nn.Sequential:
    """One after the other."""
    return nn.Sequential(OrderedDict(layers))


def convnet(width: int) -> tuple[nn.Module, int]:
    """Four blocks of convolution, norm and ReLU; and the features' width."""
    layers: dict[str, nn.Module] = {}
    inputs = 3
    for i, (factor, stride) in enumerate(((1, 1), (2, 2), (4, 2), (4, 2)), start=1):
        layers[f"conv{i}"] = conv(inputs, factor * width, 3, stride)
        layers[f"norm{i}"] = nn.BatchNorm2d(factor * width)
        layers[f"relu{i}"] = nn.ReLU()
        inputs = factor * width
    return named(**layers, pool=Mean()), inputs


def resnet18(width: int) -> tuple[nn.Module, int]:
    """ResNet-18 with the stem for small images; and the features' width."""
    layers: dict[str, nn.Module] = {
        "stem_conv": conv(3, width, 3, 1),
        "stem_norm": nn.BatchNorm2d(width),
        "stem_relu": nn.ReLU(),
    }
    inputs = width
    for stage in range(4):
        for i in range(2):
            stride = 2 if stage > 0 and i == 0 else 1
            outputs = width * 2**stage
            block = Block(inputs, outputs, stride)
            layers[f"stage{stage + 1}_block{i + 1}"] = block
            inputs = outputs
    return named(**layers, pool=Mean()), inputs


def projector(inputs: int, outputs: int) -> nn.Module:
    """Three layers, the last norm without scale."""
    layers: dict[str, nn.Module] = {}
    for i in (1, 2):
        layers[f"linear{i}"] = nn.Linear(inputs, inputs, bias=False)
        layers[f"norm{i}"] = nn.BatchNorm1d(inputs)
        layers[f"relu{i}"] = nn.ReLU()
    last = nn.Linear(inputs, outputs, bias=False)
    return named(**layers, linear3=last, norm3=nn.BatchNorm1d(outputs, affine=False))


def aligner(width: int, hidden: int) -> nn.Module:
    """Two layers, from projections to projections."""
    return named(
        linear1=nn.Linear(width, hidden, bias=False),
        norm1=nn.BatchNorm1d(hidden),
        relu1=nn.ReLU(),
        linear2=nn.Linear(hidden, width),
    )


def student(config: Mapping[str, Any]) -> nn.Module:
    """Encoder and projector, images [n c h w] -> projections [n d]."""
    name = config["backbone"]["name"]
    if name not in WIDTHS:
        known = ", ".join(WIDTHS)
        raise ValueError(f"the PyTorch side has the backbones {known}, not {name!r}")
    make = convnet if name == "convnet" else resnet18
    encoder, width = make(config["backbone"]["width"] or WIDTHS[name])
    head = projector(width, config["method"]["projection"])
    return named(encoder=encoder, projector=head)


def load(module: nn.Module, ours: Mapping[str, np.ndarray]) -> None:
    """Give `module` our arrays, {'norm1/scale': [c], ...}, every one of them."""
    found = {
        path_of(name): torch.from_numpy(turned(name, array))
        for name, array in ours.items()
    }
    missing, unknown = module.load_state_dict(found, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unknown:
        raise ValueError(f"weights do not fit: missing {missing}, unknown {unknown}")


def path_of(name: str) -> str:
    """Our path of an array as PyTorch's."""
    *modules, leaf = name.split("/")
    leaves = {"mean": "running_mean", "var": "running_var", "bias": "bias"}
    return ".".join([*modules, leaves.get(leaf, "weight")])


def turned(name: str, array: np.ndarray) -> np.ndarray:
    """Our array in PyTorch's layout: [kh kw i o] -> [o i kh kw], [i o] -> [o i]."""
    if name.endswith("/kernel"):
        axes = (3, 2, 0, 1) if array.ndim == 4 else (1, 0)
        array = array.transpose(axes)
    return np.array(array)  # a copy that may be written to
