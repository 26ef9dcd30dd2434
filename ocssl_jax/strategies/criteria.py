"""What alignment minimises between a prediction and the teacher's target, per row.

cosine  -cos(p, t)                                                in [-1, 1]
mse     mean over d of (p - t)^2                                  0 or more
ssl     the method's own objective between p and t, as in CaSSLe (Fini et al. 2022)
"""

from collections.abc import Callable
from typing import Any

import chex
import jax.numpy as jnp

from ocssl_jax import losses
from ocssl_jax.core import Array, Method

# (method, prediction [m d], target [m d], mask [m]) -> [m]; masked rows are arbitrary
Criterion = Callable[[Method, Array, Array, Array], Array]


def cosine(method: Method, prediction: Array, target: Array, mask: Array) -> Array:
    """Negative cosine similarity."""
    del method, mask
    chex.assert_equal_shape([prediction, target])
    return -losses.cosine(prediction, target)


def mse(method: Method, prediction: Array, target: Array, mask: Array) -> Array:
    """Mean squared difference."""
    del method, mask
    chex.assert_equal_shape([prediction, target])
    return jnp.mean(jnp.square(prediction - target), axis=-1)


def ssl(method: Method, prediction: Array, target: Array, mask: Array) -> Array:
    """The method's objective; `pairs.check_pair` refuses methods that have none."""
    distill: Any = method.distill
    return distill(prediction, target, mask)


CRITERIA: dict[str, Criterion] = {"cosine": cosine, "mse": mse, "ssl": ssl}


def criterion_of(name: str) -> Criterion:
    """The criterion `name`.

    Raises:
      ValueError: naming the criteria there are.
    """
    if name not in CRITERIA:
        known = ", ".join(CRITERIA)
        raise ValueError(f"align_criterion must be one of {known}, got {name!r}")
    return CRITERIA[name]
