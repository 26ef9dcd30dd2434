"""The small CLIP of the golden features, as files of open_clip and of Hugging Face."""

import json
from pathlib import Path

import numpy as np
from clip_features import CONFIG, IMAGES, TOKENS, hugging_face_config
from formula import clip_part
from safetensors.numpy import save_file

GOLDEN = Path(__file__).parents[1] / "golden"

__all__ = ["CONFIG", "FEATURES", "IMAGES", "SOURCES", "TOKENS", "folder", "tensors"]

FEATURES = np.load(GOLDEN / "clip_features.npz")
SOURCES = ("open_clip", "hugging_face")


def tensors(source):
    """Names and weights by formula, as `source` has them."""
    shapes = json.loads(str(FEATURES[f"{source}_shapes"]))
    return {name: clip_part(name, tuple(shape)) for name, shape in shapes.items()}


def folder(path, source, activation, *, weights=None):
    """A folder as `source` writes it."""
    path.mkdir(exist_ok=True)
    if source == "open_clip":
        names = "open_clip_model.safetensors", "open_clip_config.json"
        config = {"model_cfg": {**CONFIG, "quick_gelu": activation == "quick_gelu"}}
    else:
        names = "model.safetensors", "config.json"
        config = hugging_face_config(activation)
    save_file(tensors(source) if weights is None else weights, path / names[0])
    (path / names[1]).write_text(json.dumps(config))
    return path
