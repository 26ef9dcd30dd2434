"""The final encoder as files, safetensors and a JSON, and as a network again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from ocssl_jax import encoders, failed
from ocssl_jax.augment import normalizer
from ocssl_jax.backbones.grown import Grown
from ocssl_jax.core import Array, TrainState, Variables
from ocssl_jax.errors import UsageError
from ocssl_jax.learning import Learning, backbone_of, encoding, make_strategy
from ocssl_jax.pixels import Pixels, Shape
from ocssl_jax.strategies.base import Lens
from ocssl_jax.workdir import config_of, read_json, write

ABOUT = "encoder.json"


class Saved(NamedTuple):
    """An encoder as a run left it."""

    config: ConfigDict  # of the run
    module: nn.Module | Grown
    variables: Variables
    pixels: Pixels
    lens: Lens | None

    def encode(self, variables: Variables, images: Array) -> Array:
        """Features [n f] float32 of uint8 images [n h w c], as probes see them."""
        prepare = normalizer(self.pixels.mean, self.pixels.std)
        return encoding(self.module, prepare, self.lens)(variables, images)


def save(
    folder: Path,
    config: ConfigDict,
    learning: Learning,
    states: Mapping[int, TrainState],
    pixels: Pixels,
    **more: Any,
) -> None:
    """Write `seed_<s>.safetensors` for each seed in `states` and one `encoder.json`.

    Tensors are named `params.*` and `batch_stats.*` as Flax names them, float32, those
    of a supervised method's classifier `head.kernel` and `head.bias`, and `head.gate_*`
    if it is gated; those of a lens, through which the encoder is to look, `lens.*`. The
    JSON holds what `make_backbone` needs and the mean and std of
    the pixels, and `more` about the data set.
    """
    found = encoders.of(states, learning.encoder, learning.head)
    encoders.keep(folder, found, missing_only=False)
    about = {
        "backbone": config.backbone.name,
        "width": config.backbone.width,
        "depth": config.backbone.depth,
        "stem": config.backbone.stem,
        "pool": config.backbone.pool,
        "image_size": pixels.shape[0],
        "input": list(pixels.shape),
        "pixels": "uint8 / 255, minus mean, over std; channels last",
        "mean": pixels.mean,
        "std": pixels.std,
        "method": config.method.name,
        "strategy": config.strategy.name,
        "lens": "autoencoder" if learning.strategy.lens else None,
        "dataset": config.stream.dataset,
        **more,
        "seeds": list(states),
    }
    write(folder / ABOUT, json.dumps(about, indent=1) + "\n")


def load(workdir: Path, seed: int | None) -> Saved:
    """The final encoder of the run in `workdir`, of its first seed where None is asked.

    Raises:
      UsageError: if there is no run or it has not finished, or has no such seed, or a
        file of it is damaged.
    """
    config, folder = config_of(workdir), workdir / encoders.FINAL
    if not (folder / ABOUT).is_file():
        broken = failed.reason(workdir)
        raise UsageError(
            f"{workdir} holds no final encoder ({folder / ABOUT}); "
            + (f"the run broke down: {broken}" if broken else "let the run finish")
        )
    about = read_json(folder / ABOUT, needs="seeds")
    if seed is not None and seed not in about["seeds"]:
        known = ", ".join(map(str, about["seeds"]))
        raise UsageError(f"--seed must be one of {known}, got {seed}")
    try:
        height, width, channels = about["input"]
        scale = tuple(about["mean"]), tuple(about["std"])
        pixels = Pixels((height, width, channels), *scale)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{folder / ABOUT} is damaged; bring the file back") from error
    file = encoders.file(folder, about["seeds"][0] if seed is None else seed)
    module = backbone_of(config, image_size=height)
    held = encoders.load(file)
    lens = make_strategy(config, shape=pixels.shape).lens
    kept = {name: held[name] for name in encoders.COLLECTIONS if name in held}
    check(file, module, kept, pixels.shape)
    if lens:
        if encoders.LENS not in held:
            raise UsageError(f"{file} lacks the lens of its encoder; bring it back")
        kept[encoders.LENS] = held[encoders.LENS]
    return Saved(config, module, kept, pixels, lens)


def check(
    file: Path, module: nn.Module | Grown, variables: Variables, shape: Shape
) -> None:
    """Refuse the weights of another network.

    Raises:
      UsageError: naming the file.
    """
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    like = jax.eval_shape(lambda k, x: module.init(k, x, train=False), key, image)
    shapes = lambda tree: {path: x.shape for path, x in flatten_dict(tree).items()}
    if shapes(like) != shapes(variables):
        raise UsageError(f"{file} is no encoder of this run's network; bring it back")
