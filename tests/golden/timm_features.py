"""Writes timm_features.npz: what timm's models make of exported encoders.

  PYTHONPATH=.:tests python tests/golden/timm_features.py

which needs timm and torch beside this library, as no test does.

Of each of `CASES`, with weights by formula: features of two images [2 f] float64,
computed in float64 by the model that `to_torch.recipe` makes, which takes every tensor
of `to_torch` and no other; that recipe; and a checksum of each tensor.
"""

import json
import math
import zlib
from pathlib import Path

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from formula import uniform

from ocssl_jax.backbones import make_backbone
from ocssl_jax.to_torch import recipe, to_torch

CASES = {  # name -> backbone, width, depth, stem, pool, side, channels
    "small": ("resnet18", 0, 0, "small", "cls", 32, 3),
    "padded": ("resnet18", 0, 0, "padded", "cls", 16, 1),
    "large": ("resnet18", 0, 0, "large", "cls", 64, 3),
    "bottleneck": ("resnet50", 0, 0, "auto", "cls", 40, 3),
    "token": ("vit_tiny", 48, 2, "auto", "cls", 12, 3),
    "mean": ("vit_tiny", 24, 1, "auto", "mean", 8, 1),
}


def network(case):
    """The module of a case, and its images [2 h w c] in [-1, 1)."""
    name, width, depth, stem, pool, side, channels = CASES[case]
    module = make_backbone(
        name,
        image_size=side,
        dtype="float32",
        width=width,
        depth=depth,
        stem=stem,
        pool=pool,
    )
    return module, uniform(f"{case} images", (2, side, side, channels))


def part(name, shape):
    """One array by its dotted name here: He-sized kernels, norms near the identity."""
    x = uniform(name, shape)
    if name.endswith("kernel"):
        return x * np.float32(math.sqrt(6 / math.prod(shape[:-1])))
    if name.endswith(("scale", "var")):
        return 1 + np.float32(0.3) * x
    return np.float32(0.3) * x


def variables_of(module, images):
    """Those of a module, by formula."""
    like = jax.eval_shape(
        lambda: module.init(jax.random.key(0), images[:1], train=False)
    )
    flat = flatten_dict(like, sep=".")
    return unflatten_dict({n: part(n, x.shape) for n, x in flat.items()}, sep=".")


def checksums(tensors):
    """Shape and CRC-32 of each tensor by name."""
    return {n: [list(x.shape), zlib.crc32(x)] for n, x in sorted(tensors.items())}


def main():
    import torch

    found = {}
    for case in CASES:
        module, images = network(case)
        tensors = to_torch(module, variables_of(module, images))
        text, scope = recipe(module, images.shape[3]), {}
        exec(text, scope)
        model = scope["model"]
        given = {name: torch.from_numpy(x.copy()) for name, x in tensors.items()}
        model.load_state_dict(given)
        with torch.no_grad():
            x = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float64))
            found[case] = model.double().eval()(x).numpy()
        found[f"{case}_recipe"] = np.array(text)
        found[f"{case}_tensors"] = np.array(json.dumps(checksums(tensors)))
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **found)


if __name__ == "__main__":
    main()
