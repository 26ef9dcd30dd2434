"""The final encoder as files: safetensors, and a JSON that says how to rebuild it."""

import json
from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict

from ocssl_jax import encoders
from ocssl_jax.build import Experiment
from ocssl_jax.core import TrainState
from ocssl_jax.workdir import write


def export(
    folder: Path,
    experiment: Experiment,
    config: ConfigDict,
    states: Mapping[int, TrainState],
) -> None:
    """Write `seed_<s>.safetensors` for each seed in `states` and one `encoder.json`.

    Tensors are named `params.*` and `batch_stats.*` as Flax names them, float32, those
    of a supervised method's classifier `head.kernel` and `head.bias`, and `head.gate_*`
    if it is gated; those of a lens, through which the encoder is to look, `lens.*`. The
    JSON holds what `make_backbone` needs and the mean and std of the pixels.
    """
    learning = experiment.learning
    found = encoders.of(states, learning.encoder, learning.head)
    encoders.keep(folder, found, missing_only=False)
    dataset = experiment.dataset
    _, height, width, channels = dataset.train_image.shape
    about = {
        "backbone": config.backbone.name,
        "width": config.backbone.width,
        "depth": config.backbone.depth,
        "stem": config.backbone.stem,
        "pool": config.backbone.pool,
        "image_size": height,
        "input": [height, width, channels],
        "pixels": "uint8 / 255, minus mean, over std; channels last",
        "mean": dataset.mean,
        "std": dataset.std,
        "method": config.method.name,
        "strategy": config.strategy.name,
        "lens": "autoencoder" if learning.strategy.lens else None,
        "dataset": dataset.name,
        "class_names": dataset.class_names,
        "train_images": len(dataset.train_image),
        "seeds": list(states),
    }
    write(folder / "encoder.json", json.dumps(about, indent=1) + "\n")
