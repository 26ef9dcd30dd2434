"""A learner that starts from the weights of a CLIP, and back into files of one.

The method's parts are the two towers: `encoder` and `projector` the image's, `text` the
text's. The scale that CLIP was trained with is carried as it is: the objectives have a
temperature of their own.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ocssl_jax.backbones import CLIPS
from ocssl_jax.backbones.clip_vit import ImageEncoder
from ocssl_jax.clip.architecture import ARCHITECTURES, Architecture
from ocssl_jax.clip.weights import CONFIGS, load, read_architecture
from ocssl_jax.core import Array, Key, Method, Model, Params
from ocssl_jax.errors import UsageError

FIELD = "config.method.clip.weights"


def started(method: Method, backbone: Any, path: str) -> Method:
    """`method` starting from the CLIP in a file or folder, whatever the key.

    Args:
      method: of `methods.clip` on `backbone`.
      backbone: must be the image tower of a CLIP of that architecture.
      path: of open_clip's or Hugging Face's weights, see `clip.weights`.

    Raises:
      UsageError: if the weights cannot be read or are of another network.
    """
    if not isinstance(backbone, ImageEncoder):
        raise UsageError(
            f"{FIELD} needs the image tower of a CLIP, backbone.name one of "
            f"{', '.join(CLIPS)}"
        )
    check_beside(Path(path).expanduser(), backbone.architecture)
    _, found = load(path, backbone.architecture)
    params, scale = as_parts(found)

    def init(key: Key, image: Array) -> tuple[Params, Model]:
        _, model = method.init(key, image)
        first = jax.tree.map(jnp.asarray, params)
        return first, model | {"logit_scale": jnp.asarray(scale)}

    return method._replace(init=init)


def check_beside(path: Path, architecture: Architecture) -> None:
    """Refuse weights whose configuration, if there is one, tells another network.

    Raises:
      UsageError: naming what differs, and the backbone that fits if there is one.
    """
    folder = path if path.is_dir() else path.parent
    if not any((folder / name).is_file() for name in CONFIGS):
        return
    told = read_architecture(folder)
    if told == architecture:
        return
    pairs = {
        name: (getattr(told, name), getattr(architecture, name))
        for name in Architecture.__dataclass_fields__
    }
    differing = [
        f"{name} {theirs} and not {ours}"
        for name, (theirs, ours) in pairs.items()
        if theirs != ours
    ]
    fitting = [name for name, own in CLIPS.items() if ARCHITECTURES[own] == told]
    hint = f"; backbone.name={fitting[0]} fits" if fitting else ""
    raise UsageError(f"{FIELD}: {path} is a CLIP of {', '.join(differing)}{hint}")


def as_parts(params: Params) -> tuple[Params, Array]:
    """The parameters of `towers.Clip` as those of the method, and the scale."""
    image = dict(params["image"])
    projector = {"linear1": image.pop("projection")}
    parts = {"encoder": image, "projector": projector, "text": params["text"]}
    return parts, params["logit_scale"]


def as_clip(params: Params, model: Model) -> Params:
    """The method's parameters as those of `towers.Clip`, for `weights.save`."""
    image = params["encoder"] | {"projection": params["projector"]["linear1"]}
    return {
        "image": image,
        "text": params["text"],
        "logit_scale": model["logit_scale"],
    }
