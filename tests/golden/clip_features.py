"""Writes clip_features.npz: what open_clip and transformers make of a small CLIP.

  PYTHONPATH=tests python tests/golden/clip_features.py

which needs open_clip_torch and transformers, as no test does.

Features of both towers, not normalised, computed in float64: `<source>_<activation>_
{image,text}` [2 24] float64. Weights are `formula.clip_part` of the tensors' own names,
so that both libraries have other ones; images and tokens are below.
"""

import json
from pathlib import Path

import numpy as np
from formula import clip_part, uniform

IMAGES = uniform("clip images", (2, 12, 12, 3))  # channels last
TOKENS = np.array([[37, 5, 0, 11, 11, 38, 0, 0, 0], [37, 2, 38, 0, 0, 0, 0, 0, 0]])
CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {
        "image_size": 12,
        "layers": 2,
        "width": 48,
        "head_width": 16,
        "patch_size": 4,
    },
    "text_cfg": {
        "context_length": 9,
        "vocab_size": 39,
        "width": 32,
        "heads": 4,
        "layers": 2,
    },
}


def hugging_face_config(activation):
    """`CONFIG` in the words of transformers."""
    vision, text = CONFIG["vision_cfg"], CONFIG["text_cfg"]
    return {
        "projection_dim": CONFIG["embed_dim"],
        "vision_config": {
            "hidden_size": vision["width"],
            "intermediate_size": 4 * vision["width"],
            "num_hidden_layers": vision["layers"],
            "num_attention_heads": vision["width"] // vision["head_width"],
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "hidden_act": activation,
        },
        "text_config": {
            "hidden_size": text["width"],
            "intermediate_size": 4 * text["width"],
            "num_hidden_layers": text["layers"],
            "num_attention_heads": text["heads"],
            "max_position_embeddings": text["context_length"],
            "vocab_size": text["vocab_size"],
            "hidden_act": activation,
            "bos_token_id": 37,
            "eos_token_id": 38,
        },
    }


def filled(model):
    """The model in float64 with weights by formula, and its tensors' shapes."""
    import torch

    shapes = {}
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            shapes[name] = tuple(tensor.shape)
            tensor.copy_(torch.from_numpy(np.array(clip_part(name, shapes[name]))))
    return model.double().eval(), shapes


def main():
    import open_clip
    import torch
    from transformers import CLIPConfig, CLIPModel

    images = torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).astype(np.float64))
    tokens = torch.from_numpy(TOKENS)
    found = {}
    for activation in ("gelu", "quick_gelu"):
        model = open_clip.CLIP(**CONFIG, quick_gelu=activation == "quick_gelu")
        model, shapes = filled(model)
        with torch.no_grad():
            found[f"open_clip_{activation}_image"] = model.encode_image(images).numpy()
            found[f"open_clip_{activation}_text"] = model.encode_text(tokens).numpy()
        found["open_clip_shapes"] = np.array(json.dumps(shapes))
        model = CLIPModel(CLIPConfig(**hugging_face_config(activation)))
        model, shapes = filled(model)
        found["hugging_face_shapes"] = np.array(json.dumps(shapes))
        with torch.no_grad():
            out = model.vision_model(pixel_values=images).pooler_output
            image = model.visual_projection(out).numpy()
            out = model.text_model(input_ids=tokens).pooler_output
            text = model.text_projection(out).numpy()
        found[f"hugging_face_{activation}_image"] = image
        found[f"hugging_face_{activation}_text"] = text
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **found)


if __name__ == "__main__":
    main()
