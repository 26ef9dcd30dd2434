"""iCaRL's choice of exemplars and its classifier (Rebuffi et al. 2017, algorithm 4)."""

from typing import Any

import jax
import jax.numpy as jnp

from ocssl_jax.core import Array, Head

NOT_CHOSEN = int(jnp.iinfo(jnp.int32).max)
NEVER = -1e30  # a logit that no other one is below


def members(label: Array, mask: Array, classes: int) -> Array:
    """[k n] bool: which of the rows that count are of each class."""
    return jax.nn.one_hot(label, classes, axis=0, dtype=bool) & mask[None, :]


def class_means(
    feature: Array, label: Array, mask: Array, classes: int | None = None
) -> tuple[Array, Array]:
    """Mean feature of each class, and which classes have any.

    Args:
      feature: [n d].
      label: [n] int.
      mask: [n] bool, rows that count.
      classes: k; d if it is not given, as for logits.

    Returns:
      [k d], 0 for a class without rows, and [k] bool.
    """
    k = feature.shape[1] if classes is None else classes
    own = members(label, mask, k).astype(jnp.float32)
    count = jnp.sum(own, axis=1)
    total = jnp.matmul(own, feature, precision="highest")
    return total / jnp.maximum(count, 1.0)[:, None], count > 0


def herded(
    feature: Array, label: Array, mask: Array, quota: Array, classes: int
) -> Array:
    """The order in which herding chooses rows, class by class and without repetition.

    The next row of a class is the one that brings the mean of those chosen closest to
    the mean of all.

    Args:
      feature: [n d].
      label: [n] int in 0 .. classes - 1.
      mask: [n] bool, rows that may be chosen.
      quota: [] int, rows of a class; of smaller classes all.
      classes: k.

    Returns:
      [n] int32, 0 for the first of a class; `NOT_CHOSEN` for the others.
    """
    means, _ = class_means(feature, label, mask, classes)
    rows = jnp.arange(len(label))

    def choose(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        place, total = carry
        new = (total[label] + feature) / (j + 1.0)
        distance = jnp.sum(jnp.square(means[label] - new), axis=1)
        own = members(label, mask & (place == NOT_CHOSEN), classes)
        best = jnp.argmin(jnp.where(own, distance[None, :], jnp.inf), axis=1)  # [k]
        any_left = jnp.any(own, axis=1)
        won = any_left[label] & (best[label] == rows)
        total = total + jnp.where(any_left[:, None], feature[best], 0.0)
        return jnp.where(won, j, place), total

    start = (jnp.full(len(label), NOT_CHOSEN, jnp.int32), jnp.zeros_like(means))
    return jax.lax.fori_loop(0, quota.astype(jnp.int32), choose, start)[0]


def nearest_mean(head: Head, means: Array, known: Array) -> Head:
    """The classifier by the nearest mean of logits, itself a linear one.

    |z - m|^2 is smallest where 2 z'm - |m|^2 is largest, and z is linear in features.

    Args:
      head: whose outputs are the logits z.
      means: [k k], of each class.
      known: [k] bool, the classes to choose from.
    """
    precise: Any = {"precision": "highest"}
    kernel = 2.0 * jnp.matmul(head["kernel"], means.T, **precise)
    bias = 2.0 * jnp.matmul(head["bias"], means.T, **precise)
    bias -= jnp.sum(jnp.square(means), axis=1)
    return among({"kernel": kernel, "bias": bias}, known)


def among(head: Head, known: Array) -> Head:
    """The classifier that chooses among the classes `known` [k] alone."""
    return {
        "kernel": jnp.where(known[None, :], head["kernel"], 0.0),
        "bias": jnp.where(known, head["bias"], NEVER),
    }
