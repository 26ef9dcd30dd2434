"""Weights and images by formula: golden values need no files of weights."""

import math
import zlib

import numpy as np


def uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in [-1, 1) float32 that only depend on `name` and their position."""
    x = np.arange(math.prod(shape), dtype=np.uint32) + np.uint32(
        zlib.crc32(name.encode())
    )
    for _ in range(2):  # the steps of a well-known integer hash; exact everywhere
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x45D9F3B)
    x = x ^ (x >> np.uint32(16))
    return (x / 2.0**31 - 1.0).astype(np.float32).reshape(shape)


def torch_resnet(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """A PyTorch ResNet's tensors: He-sized kernels, norms near the identity."""
    tensors = {}
    for name, shape in shapes.items():
        x = uniform(name, shape)
        if len(shape) == 4:
            x = x * np.float32(math.sqrt(6 / math.prod(shape[1:])))
        elif name.endswith("running_var") or name.endswith("weight"):
            x = 1 + np.float32(0.3) * x
        else:
            x = np.float32(0.3) * x
        tensors[name] = x
    return tensors


def vit_part(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """One array of a ViT or its decoder by its dotted name here."""
    x = uniform(name, shape)
    if name.endswith("kernel"):
        return x * np.float32(math.sqrt(3 / shape[0]))
    if name.endswith("scale"):
        return 1 + np.float32(0.3) * x
    return np.float32(0.3) * x


def clip_part(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """One tensor of a CLIP by its name in a file of weights, kernels twice He's size.

    Large kernels tell one activation from another; small ones leave both linear.
    """
    x = uniform(name, shape)
    if len(shape) == 2 and "embedding" in name:
        return np.float32(0.5) * x
    if len(shape) >= 2:
        inputs = shape[0] if name in ("visual.proj", "text_projection") else shape[1:]
        return x * np.float32(2 * math.sqrt(6 / np.prod(inputs)))
    if name.endswith("weight"):
        return 1 + np.float32(0.3) * x
    return np.asarray(np.float32(0.3) * x)  # NumPy makes a number of shape ()
