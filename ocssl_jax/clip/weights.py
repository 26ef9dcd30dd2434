"""CLIP's weights from files and back.

A folder is the unit: the weights as .safetensors, and beside them a configuration that
says what tensors cannot. Two kinds are read, neither needs PyTorch:

* open_clip's: `open_clip_model.safetensors` and `open_clip_config.json`;
* Hugging Face's: `model.safetensors` and `config.json` of a `CLIPModel`.

A folder is written in the first of these formats, which open_clip loads as
`local-dir:<folder>`. What was read comes out bit for bit.
"""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import numpy as safetensors

from ocssl_jax.clip import architecture as architectures
from ocssl_jax.clip import names
from ocssl_jax.clip.architecture import Architecture
from ocssl_jax.clip.towers import shapes_of
from ocssl_jax.core import Params
from ocssl_jax.errors import UsageError
from ocssl_jax.pretrained import check, read
from ocssl_jax.workdir import write, write_bytes

FIELD = "CLIP"  # how errors begin
WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"
# Weights by choice, and the configurations that may be beside them.
FILES = (WEIGHTS, "model.safetensors")
CONFIGS = {
    CONFIG: architectures.from_open_clip,
    "config.json": architectures.from_hugging_face,
}


def load(
    path: str | Path, architecture: Architecture | None = None
) -> tuple[Architecture, Params]:
    """A CLIP from files.

    Args:
      path: of the folder, or of one file of weights in it.
      architecture: of the network; None reads it from the configuration beside.

    Returns:
      The architecture and parameters of `towers.Clip`, float32.

    Raises:
      UsageError: if a file is missing, damaged or of another network.
    """
    file = _weights_of(Path(path).expanduser())
    tensors = names.unwrapped(read(file, field=FIELD))
    if architecture is None:
        architecture = read_architecture(file.parent)
    if names.is_hugging_face(tensors):
        tensors = names.from_hugging_face(tensors)
    like = flatten_dict(shapes_of(architecture))
    wanted = {names.open_clip_name(leaf): leaf for leaf in like}
    view = lambda name, shape: names.to_theirs(
        name, np.broadcast_to(np.float32(0), shape), architecture.patch
    )
    shapes = {name: view(name, like[leaf].shape).shape for name, leaf in wanted.items()}
    check(str(file), tensors, shapes, field=FIELD, what="network")
    filled = {
        leaf: jnp.asarray(names.to_ours(name, tensors[name]))
        for name, leaf in wanted.items()
    }
    return architecture, unflatten_dict(filled)


def save(folder: str | Path, architecture: Architecture, params: Params) -> None:
    """Write a folder that open_clip and `load` read; the config comes last."""
    tensors = {}
    for leaf, array in flatten_dict(jax.device_get(params)).items():
        name = names.open_clip_name(leaf)
        theirs = names.to_theirs(name, np.asarray(array), architecture.patch)
        # What is not in C order a safetensors file would hold wrong, without a word.
        tensors[name] = np.array(theirs, order="C")
    folder = Path(folder)
    content = safetensors.save(tensors, metadata={"format": "pt"})
    write_bytes(folder / WEIGHTS, content)
    about = architectures.to_open_clip(architecture)
    write(folder / CONFIG, json.dumps(about, indent=1) + "\n")


def read_architecture(folder: Path) -> Architecture:
    """The architecture that the configuration in a folder tells, open_clip's first.

    Raises:
      UsageError: if there is none, or it is of another kind of network.
    """
    for name, reader in CONFIGS.items():
        path = folder / name
        if path.is_file():
            return reader(_json(path), source=f"{FIELD}: {path}")
    raise UsageError(
        f"{FIELD}: {folder} has neither {' nor '.join(CONFIGS)}; heads and activation "
        f"cannot be read off the weights, so give one of them or an architecture"
    )


def _weights_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in FILES:
        if (path / name).is_file():
            return path / name
    raise UsageError(
        f"{FIELD}: {path} has neither {' nor '.join(FILES)}; convert a PyTorch file "
        f"with safetensors.torch.save_file"
    )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{FIELD}: {path} is no JSON ({error})") from error
