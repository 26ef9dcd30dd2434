"""What a CLIP checkpoint does not say by its tensors: sizes, heads, activation, pixels.

Heads and activation cannot be read off the shapes, and a wrong activation is nearly
invisible (cosines of 0.9999 at random weights), so they are never guessed: they come
from the configuration beside the weights, in open_clip's or in Hugging Face's format.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ocssl_jax.errors import UsageError

ACTIVATIONS = ("gelu", "quick_gelu")  # x Phi(x), exactly; x sigmoid(1.702 x)
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
CONTEXT, VOCABULARY = 77, 49408


class Tower(NamedTuple):
    """Size of a transformer; its perceptrons are four times as wide inside."""

    width: int
    layers: int
    heads: int


@dataclass(frozen=True)
class Architecture:
    """All that decides the function of a CLIP beside its weights."""

    image: Tower
    text: Tower
    features: int  # of both towers together, the space they share
    image_size: int  # pixels a side
    patch: int  # pixels a side
    activation: str  # one of `ACTIVATIONS`, in both towers
    context: int = CONTEXT  # tokens of a text, at most
    vocabulary: int = VOCABULARY  # the largest token ends a text
    mean: tuple[float, ...] = MEAN  # of the pixels, in [0, 1]
    std: tuple[float, ...] = STD

    def __post_init__(self) -> None:
        """Refuse sizes that make no network.

        Raises:
          UsageError: naming the sizes.
        """
        for name in ("image", "text"):
            tower = getattr(self, name)
            if min(tower) < 1 or tower.width % tower.heads:
                raise UsageError(
                    f"CLIP's {name} tower needs a width that its heads divide, got "
                    f"width {tower.width}, layers {tower.layers}, heads {tower.heads}"
                )
        if self.patch < 1 or self.image_size % self.patch:
            raise UsageError(
                f"CLIP's image_size must be a multiple of its patch, got "
                f"{self.image_size} and {self.patch}"
            )
        if self.activation not in ACTIVATIONS:
            raise UsageError(
                f"CLIP's activation must be one of {', '.join(ACTIVATIONS)}, got "
                f"{self.activation!r}"
            )


def _base(patch: int, activation: str) -> Architecture:
    """ViT-B of Radford et al. 2021, table 20, on images of 224 pixels."""
    return Architecture(
        image=Tower(768, 12, 12),
        text=Tower(512, 12, 8),
        features=512,
        image_size=224,
        patch=patch,
        activation=activation,
    )


# By open_clip's names. OpenAI's weights are the ones with QuickGELU, LAION's without.
ARCHITECTURES = {
    "ViT-B-16": _base(16, "gelu"),
    "ViT-B-16-quickgelu": _base(16, "quick_gelu"),
    "ViT-B-32": _base(32, "gelu"),
    "ViT-B-32-quickgelu": _base(32, "quick_gelu"),
    # For tests and two cores; the gradient of the exact GELU is slow on a CPU.
    "micro": Architecture(
        image=Tower(64, 2, 4),
        text=Tower(64, 1, 4),
        features=32,
        image_size=24,
        patch=6,
        activation="quick_gelu",
        context=16,
        vocabulary=520,
    ),
}

# What else these formats can say, and the one value that this network is.
OPEN_CLIP_VISION = {"mlp_ratio": 4.0, "pool_type": "tok"}
OPEN_CLIP_TEXT = {"mlp_ratio": 4.0, "pool_type": "argmax"}
# How a network is made or trained, not what it computes.
OPEN_CLIP_IGNORED = ("patch_dropout", "init_logit_scale", "output_tokens")


def from_open_clip(config: Mapping[str, Any], *, source: str) -> Architecture:
    """The architecture in an `open_clip_config.json`; absent fields as open_clip has.

    Args:
      config: the file's content.
      source: names the file in errors.

    Raises:
      UsageError: if it describes another kind of network.
    """
    model = dict(_part(config, "model_cfg", source))
    vision = dict(_part(model, "vision_cfg", source))
    text = dict(_part(model, "text_cfg", source))
    pixels = config.get("preprocess_cfg") or {}
    del model["vision_cfg"], model["text_cfg"]
    width = vision.pop("width", 768)
    text_width = text.pop("width", 512)
    found = Architecture(
        image=Tower(
            width, vision.pop("layers", 12), width // vision.pop("head_width", 64)
        ),
        text=Tower(text_width, text.pop("layers", 12), text.pop("heads", 8)),
        features=_number(model.pop("embed_dim", None), "embed_dim", source),
        image_size=_number(vision.pop("image_size", 224), "image_size", source),
        patch=_number(vision.pop("patch_size", 16), "patch_size", source),
        activation="quick_gelu" if model.pop("quick_gelu", False) else "gelu",
        context=text.pop("context_length", CONTEXT),
        vocabulary=text.pop("vocab_size", VOCABULARY),
        mean=tuple(pixels.get("mean") or MEAN),
        std=tuple(pixels.get("std") or STD),
    )
    model.pop("custom_text", None)  # how the tensors are named; `weights` reads both
    for part, allowed in (
        (model, {}),
        (vision, OPEN_CLIP_VISION),
        (text, OPEN_CLIP_TEXT),
    ):
        _nothing_else(part, allowed, source)
    return found


def to_open_clip(architecture: Architecture) -> dict[str, Any]:
    """The content of an `open_clip_config.json`."""
    a = architecture
    return {
        "model_cfg": {
            "embed_dim": a.features,
            # Without it open_clip would take the exact GELU.
            "quick_gelu": a.activation == "quick_gelu",
            "vision_cfg": {
                "image_size": a.image_size,
                "layers": a.image.layers,
                "width": a.image.width,
                "head_width": a.image.width // a.image.heads,
                "patch_size": a.patch,
            },
            "text_cfg": {
                "context_length": a.context,
                "vocab_size": a.vocabulary,
                "width": a.text.width,
                "heads": a.text.heads,
                "layers": a.text.layers,
            },
        },
        "preprocess_cfg": {
            "mean": list(a.mean),
            "std": list(a.std),
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


def from_hugging_face(config: Mapping[str, Any], *, source: str) -> Architecture:
    """The architecture in the `config.json` of a Hugging Face `CLIPModel`.

    Args:
      config: the file's content; absent fields are as `transformers` has them.
      source: names the file in errors.

    Raises:
      UsageError: if it describes another kind of network.
    """
    vision, text = (_own_part(config, name, source) for name in ("vision", "text"))
    towers, activations = [], set()
    for part, width, heads in ((vision, 768, 12), (text, 512, 8)):
        width = part.get("hidden_size", width)
        inside = part.get("intermediate_size", 4 * width)
        epsilon = part.get("layer_norm_eps", 1e-5)
        if inside != 4 * width or epsilon != 1e-5:
            raise UsageError(
                f"{source}: intermediate_size must be 4 hidden_size and layer_norm_eps "
                f"1e-05, got {inside}, {width} and {epsilon}"
            )
        heads = part.get("num_attention_heads", heads)
        towers.append(Tower(width, part.get("num_hidden_layers", 12), heads))
        activations.add(part.get("hidden_act", "quick_gelu"))
    if len(activations) > 1:
        raise UsageError(f"{source}: hidden_act must be the same in both towers")
    return Architecture(
        image=towers[0],
        text=towers[1],
        features=config.get("projection_dim", 512),
        image_size=vision.get("image_size", 224),
        patch=vision.get("patch_size", 32),
        activation=activations.pop(),
        context=text.get("max_position_embeddings", CONTEXT),
        vocabulary=text.get("vocab_size", VOCABULARY),
    )


def _own_part(config: Mapping[str, Any], tower: str, source: str) -> Mapping[str, Any]:
    """A tower's part of Hugging Face's; older files say it twice, and this one rules.

    `transformers` builds the tower from `text_config_dict` if there is one, with its
    defaults where that says nothing.
    """
    older = f"{tower}_config_dict"
    given = isinstance(config, Mapping) and config.get(older) is not None
    return _part(config, older if given else f"{tower}_config", source)


def _part(config: Mapping[str, Any], name: str, source: str) -> Mapping[str, Any]:
    part = config.get(name) if isinstance(config, Mapping) else None
    if not isinstance(part, Mapping):
        raise UsageError(f"{source} has no {name}: it is no configuration of a CLIP")
    return part


def _number(value: Any, name: str, source: str) -> int:
    if not isinstance(value, int):
        raise UsageError(f"{source}: {name} must be one whole number, got {value!r}")
    return value


def _nothing_else(
    part: Mapping[str, Any], allowed: Mapping[str, Any], source: str
) -> None:
    for name, value in part.items():
        off = value is None or value is False
        if not off and name not in OPEN_CLIP_IGNORED and allowed.get(name) != value:
            raise UsageError(
                f"{source}: {name} = {value!r} is another kind of network than the "
                f"plain CLIP with a ViT that is read here"
            )
