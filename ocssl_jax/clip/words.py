"""The side of the words: a row for each class, made by a text tower that is trained."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.typing import DTypeLike

from ocssl_jax.clip.architecture import ARCHITECTURES, Architecture, Tower
from ocssl_jax.clip.tokenizer import IN_FOLDER, Tokenizer, load_tokenizer
from ocssl_jax.clip.towers import TextTower
from ocssl_jax.clip.zero_shot import class_features, class_tokens, text_identity
from ocssl_jax.core import Array, Key, Params


class Words(NamedTuple):
    """What classes are called, as pure functions of a tower's parameters."""

    init: Callable[[Key], Params]
    rows: Callable[[Params], Array]  # -> [k f] float32 of length 1
    identity: Array  # [k] int32, equal where the texts are


def spoken(
    architecture: Architecture,
    tokenizer: Tokenizer,
    class_names: Sequence[str],
    templates: Sequence[str],
    dtype: DTypeLike,
) -> Words:
    """The names of classes in templates, read by a text tower.

    Args:
      architecture: of the tower.
      tokenizer: of the architecture.
      class_names: of the k labels.
      templates: what a class is called, {} in the name's place; their mean counts.
      dtype: of the tower's computation.

    Raises:
      UsageError: if a template has no place for a name, or the tokenizer does not fit.
    """
    found = class_tokens(tokenizer, architecture, class_names, templates)
    tokens, tower = jnp.asarray(found), TextTower(architecture, dtype)

    def init(key: Key) -> Params:
        return tower.init(key, tokens[0])["params"]

    def rows(params: Params) -> Array:
        encode: Any = lambda texts: tower.apply({"params": params}, texts)
        return class_features(encode, tokens)

    return Words(init, rows, jnp.asarray(text_identity(found)))


def own_words(
    text: Mapping[str, int], features: int, merges: str
) -> tuple[Architecture, Tokenizer]:
    """A text tower of the sizes in `text`, for a backbone that is no tower of CLIP's.

    Args:
      text: `width`, `layers` and `heads` of the tower, `context` in tokens.
      features: of the space that images and texts share.
      merges: a file or folder of `tokenizer.load_tokenizer`; '': bytes alone.
    """
    context = text["context"]
    tokenizer = Tokenizer((), context=context)
    if merges:
        tokenizer = load_tokenizer(merges, context=context)
    architecture = Architecture(
        image=ARCHITECTURES["micro"].image,  # the backbone is in its place
        text=Tower(text["width"], text["layers"], text["heads"]),
        features=features,
        image_size=ARCHITECTURES["micro"].image_size,
        patch=ARCHITECTURES["micro"].patch,
        activation="quick_gelu",
        context=context,
        vocabulary=tokenizer.end + 1,
    )
    return architecture, tokenizer


def tokenizer_of(architecture: Architecture, merges: str, weights: str) -> Tokenizer:
    """The tokenizer of a CLIP.

    Its merges are those of `merges`; failing that of the folder of the `weights`;
    failing that of the package open_clip.

    Raises:
      UsageError: if there is none.
    """
    path = Path(weights).expanduser()
    beside = path if path.is_dir() else path.parent
    if not merges and weights and any((beside / n).is_file() for n in IN_FOLDER):
        merges = str(beside)
    return load_tokenizer(merges, context=architecture.context)
