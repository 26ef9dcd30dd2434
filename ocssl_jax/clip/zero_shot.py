"""A classifier made of words (Radford et al. 2021, section 3.1).

Each class is a row of text features; an image is of the class whose row is nearest.
"""

import warnings
from collections.abc import Callable, Sequence

import chex
import jax.numpy as jnp
import numpy as np

from ocssl_jax.clip.architecture import Architecture
from ocssl_jax.clip.tokenizer import Tokenizer
from ocssl_jax.core import Array
from ocssl_jax.errors import UsageError
from ocssl_jax.losses import unit

Templates = tuple[str, ...]

# In training and testing, where the paper says nothing of prompts.
PLAIN: Templates = ("a photo of a {}.",)
# The seven that OpenAI found to do as well on ImageNet as all eighty together.
SEVEN: Templates = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


def prompts(classes: Sequence[str], templates: Sequence[str] = PLAIN) -> list[str]:
    """Texts of k classes in c templates, [k·c], a class's own beside each other.

    Underscores in names are read as blanks.

    Raises:
      UsageError: if a template has no place for the name, or there is none.
    """
    if not templates or not all("{}" in template for template in templates):
        raise UsageError(
            "templates must have {} in the name's place, got "
            + (", ".join(map(repr, templates)) or "none")
        )
    names = [name.replace("_", " ").strip() for name in classes]
    return [template.replace("{}", name) for name in names for template in templates]


def class_tokens(
    tokenizer: Tokenizer,
    architecture: Architecture,
    classes: Sequence[str],
    templates: Sequence[str] = PLAIN,
) -> np.ndarray:
    """Tokens [k c t] int32 of k classes in c templates.

    Raises:
      UsageError: if the tokenizer is not the network's; its tokens would be read as
        others without a word.
    """
    has = tokenizer.end + 1, tokenizer.context
    if has[0] != architecture.vocabulary or has[1] > architecture.context:
        raise UsageError(
            f"the tokenizer has {has[0]} tokens and texts of {has[1]}, the network "
            f"{architecture.vocabulary} and {architecture.context}"
        )
    tokens = tokenizer(prompts(classes, templates))
    return tokens.reshape(len(classes), len(templates), -1)


def text_identity(tokens: np.ndarray) -> np.ndarray:
    """For each class the first class with the same texts.

    Classes may share a name (two of ImageNet's are 'missile'). What is no other text
    is no negative: such a pair's similarity can never fall behind the positive's.

    Args:
      tokens: [k c t] of `class_tokens`.

    Returns:
      [k] int32.
    """
    flat = tokens.reshape(len(tokens), -1)
    _, first, inverse = np.unique(flat, axis=0, return_index=True, return_inverse=True)
    identity = first[inverse.reshape(-1)].astype(np.int32)
    if (twins := np.flatnonzero(identity != np.arange(len(identity)))).size:
        warnings.warn(
            f"classes {twins.tolist()} have the texts of classes "
            f"{identity[twins].tolist()}: no classifier of words tells them apart, and "
            f"the one of the lower number is predicted",
            stacklevel=2,
        )
    return identity


def class_features(encode: Callable[[Array], Array], tokens: Array) -> Array:
    """Rows [k f] of length 1 for k classes.

    As open_clip does: each text's features are scaled to length 1, averaged over the
    templates, and scaled again.

    Args:
      encode: tokens [m t] -> features [m f].
      tokens: [k c t] of `class_tokens`.
    """
    chex.assert_rank(tokens, 3)
    k, c, t = tokens.shape
    rows = unit(encode(tokens.reshape(k * c, t)).astype(jnp.float32))
    return unit(rows.reshape(k, c, -1).mean(axis=1))


def similarities(images: Array, classes: Array) -> Array:
    """Cosines [n k] of image features [n f] and class features [k f], any length.

    In full float32 on every platform: at a temperature of 0.01 TF32's or bfloat16's
    rounding would move a logit by 0.2.
    """
    x, t = unit(images.astype(jnp.float32)), unit(classes.astype(jnp.float32))
    return jnp.matmul(x, t.T, precision="highest")


def classify(similarity: Array, candidates: Array) -> Array:
    """The nearest class [n] int32 of those where `candidates` [k] is True.

    Of equally near ones it is the first.
    """
    chex.assert_shape(candidates, similarity.shape[-1:])
    scores = jnp.where(candidates[None], similarity, -jnp.inf)
    return jnp.argmax(scores, axis=-1).astype(jnp.int32)
