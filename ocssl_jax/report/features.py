"""What the final encoder makes of some images, for looking at."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ocssl_jax.rows import Split

MOST = 400  # images: more make no clearer map, and take seconds


class Seen(NamedTuple):
    """Images and their features."""

    image: np.ndarray  # [n h w c] uint8
    feature: np.ndarray  # [n f] float32, finite
    label: np.ndarray  # [n] int
    task: np.ndarray  # [n] int
    class_names: Sequence[str]
    noun: str = "test images"


def seen(
    encode: Any,
    images: Split,
    class_names: Sequence[str],
    noun: str = "test images",
) -> Seen | None:
    """At most `MOST` of the images, spread over all of them.

    Args:
      encode: images [n h w c] -> features [n f].
      images: which ones; of no class their label is -1.
      class_names: by label.
      noun: what they are called.

    Returns:
      None where features are not finite, or images too few to tell anything.
    """
    count = len(images.label)
    if count < 3:
        return None
    rows = np.unique(np.linspace(0, count - 1, min(count, MOST)).round().astype(int))
    image = np.asarray(images.image[rows])
    feature = encode(image)
    if not np.isfinite(feature).all():
        return None
    label, task = images.label[rows], images.task[rows]
    return Seen(image, feature, label, task, class_names, noun)


def unit(feature: np.ndarray) -> np.ndarray:
    """Features [n f] of length 1; those that are 0 stay."""
    length = np.linalg.norm(feature.astype(np.float64), axis=1, keepdims=True)
    return feature / np.maximum(length, 1e-12)
