"""Encoders that start from weights in a file, instead of random ones.

Files are .safetensors; nothing is ever unpickled. Two kinds of names are read:

* this library's exports (`encoder/seed_<s>.safetensors` of a run): `params.*` and
  `batch_stats.*`, for every backbone;
* those of torchvision's and timm's ResNets (`layer1.0.conv1.weight`, ...), for the
  ResNets here; the classifier `fc.*` and `num_batches_tracked` are left out. All names
  may begin with `module.`, `encoder.`, `online_encoder.` or `backbone.`.

Every other tensor must be used, every weight and running statistic filled, and shapes
must agree. A torchvision file has the large stem, which images of at most 32 pixels get
only if asked: `--config.backbone.stem=large`. Images are normalised by their data set's
mean and deviation, whatever the weights were trained with.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ocssl_jax.backbones.resnet import ResNet
from ocssl_jax.core import Array, Key, Variables
from ocssl_jax.errors import UsageError

FIELD = "config.backbone.pretrained"
PREFIXES = ("module.", "online_encoder.", "encoder.", "backbone.")
UNUSED = re.compile(r"(^|\.)(fc\.(weight|bias)|num_batches_tracked)$")

# torchvision's names for the ResNet's; 'norm1' and the like become 'bn1'.
MODULES = {
    "stem_conv": "conv1",
    "stem_norm": "bn1",
    "shortcut_conv": "downsample.0",
    "shortcut_norm": "downsample.1",
}
KINDS = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
STEMS = ("conv1.weight", "params.stem_conv.kernel")  # what the kernel is called
SIDES = {3: "small", 7: "large"}  # pixels of the kernel -> the stem
SHOWN = 3  # tensors named in an error

Leaf = tuple[str, ...]  # where in the variables: ('params', 'stem_conv', 'kernel')
Tensors = dict[str, np.ndarray]


class Pretrained:
    """A module whose `init` gives the same weights whatever the key."""

    def __init__(self, module: nn.Module, variables: Variables):
        """`variables` are those of `module`, float32."""
        self.module, self.variables = module, variables
        self.apply: Callable[..., Any] = module.apply

    def init(self, key: Key, images: Array, *, train: bool) -> Variables:
        """The variables that were read."""
        del key, images, train
        return jax.tree.map(jnp.asarray, self.variables)


def pretrained(path: str, module: nn.Module, *, shape: tuple[int, ...]) -> Pretrained:
    """`module` starting from the weights in a file.

    Args:
      path: of the file.
      module: a backbone.
      shape: of its images, (h, w, c).

    Raises:
      UsageError: if the file cannot be read or is not of this network.
    """
    tensors = read(Path(path).expanduser())
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    like = jax.eval_shape(
        lambda x: module.init(jax.random.key(0), x, train=False), image
    )
    leaves = {  # weights first, since these are named in an error
        (part, *leaf): x
        for part in ("params", "batch_stats")
        for leaf, x in flatten_dict(like.get(part, {})).items()
    }
    exported = any(name.startswith("params.") for name in tensors)
    if exported:  # a classifier's head stays behind, and so does a lens
        apart = ("head.", "lens.")
        tensors = {n: x for n, x in tensors.items() if not n.startswith(apart)}
    if not exported and not isinstance(module, ResNet):
        raise UsageError(
            f"{FIELD}: {path} is no export of this library; files of others are read "
            f"for ResNets only, and the backbone is a {type(module).__name__}"
        )
    wanted = {(".".join if exported else torch_name)(leaf): leaf for leaf in leaves}
    if not exported:
        tensors = from_torch(tensors)
    check(path, tensors, {name: leaves[leaf].shape for name, leaf in wanted.items()})
    filled = {leaf: tensors[name] for name, leaf in wanted.items()}
    return Pretrained(module, {"batch_stats": {}} | unflatten_dict(filled))


def read(path: Path, *, field: str = FIELD) -> Tensors:
    """Every tensor of a .safetensors file, as float32 if it is of any float format.

    `field` is the config's that names the file, for errors.

    Raises:
      UsageError: if there is no such file, or it is of another format.
    """
    if not path.is_file():
        raise UsageError(f"{field}: there is no file {path}")
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, TypeError, KeyError) as error:
        # TypeError and KeyError: a number format that NumPy does not have.
        raise UsageError(
            f"{field}: {path} cannot be read as .safetensors of float32 ({error}); "
            f"convert a PyTorch file with safetensors.torch.save_file"
        ) from error
    floats = {n: jnp.issubdtype(x.dtype, jnp.floating) for n, x in tensors.items()}
    return {n: x.astype(np.float32) if floats[n] else x for n, x in tensors.items()}


def from_torch(tensors: Tensors) -> Tensors:
    """The encoder's tensors without their common prefixes, kernels as [h w i o]."""
    kept = {name: x for name, x in tensors.items() if not UNUSED.search(name)}
    for _ in PREFIXES:  # wrappers nest, in any order
        for prefix in PREFIXES:
            if kept and all(name.startswith(prefix) for name in kept):
                kept = {name.removeprefix(prefix): x for name, x in kept.items()}
    return {n: x.transpose(2, 3, 1, 0) if x.ndim == 4 else x for n, x in kept.items()}


def torch_name(leaf: Leaf) -> str:
    """The name in torchvision of a ResNet's weight or running statistic.

    ('params', 'stage1_block2', 'conv1', 'kernel') -> 'layer1.1.conv1.weight'.
    """
    *modules, kind = leaf[1:]
    names = []
    for name in modules:
        if block := re.fullmatch(r"stage(\d+)_block(\d+)", name):
            name = f"layer{block[1]}.{int(block[2]) - 1}"
        names.append(MODULES.get(name, name.replace("norm", "bn")))
    return ".".join([*names, KINDS[kind]])


def check(
    path: str,
    tensors: Tensors,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    field: str = FIELD,
    what: str = "backbone",
) -> None:
    """Tensors and `shapes` must have the same names and shapes, and finite values.

    `field` is the config's that names the file and `what` it is for, for errors.

    Raises:
      UsageError: naming the first that do not fit.
    """
    faults = [
        f"{name} is {list(tensors[name].shape)}, not {list(shape)}"
        for name, shape in shapes.items()
        if name in tensors and tensors[name].shape != shape
    ]
    faults += [f"it lacks {name}" for name in shapes if name not in tensors]
    faults += [f"it has {name} besides" for name in tensors if name not in shapes]
    for name in (name for name in shapes if name in tensors):
        if tensors[name].dtype != np.float32:
            faults.append(f"{name} is {tensors[name].dtype}, no float")
        elif not np.isfinite(tensors[name]).all():
            faults.append(f"{name} is not finite")
    for stem in STEMS:
        if stem not in tensors or stem not in shapes:
            continue
        side = max(tensors[stem].shape[:1], default=0)
        if side in SIDES and side != shapes[stem][0]:
            # Whatever else may differ, this comes first.
            faults = [f"its stem needs --config.backbone.stem={SIDES[side]}"]
    if faults:
        more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise UsageError(
            f"{field}: {path} does not fit the {what}: "
            f"{', '.join(faults[:SHOWN])}{more}"
        )
