"""A linear classifier on frozen features that sees every class equally often."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from ocssl_jax.core import Array, Head
from ocssl_jax.losses import cross_entropy
from ocssl_jax.strategies.herding import NEVER, among

SPREAD = 1e-6  # added to the variance of a feature


def balanced_weights(label: Array, mask: Array, classes: int) -> tuple[Array, Array]:
    """What each row counts, and which classes there are.

    The sum of weight · f over the rows is the mean over classes of their means of f:
    the expectation over rows drawn evenly from each class.

    Args:
      label: [n] int in 0 .. classes - 1.
      mask: [n] bool, rows that count.
      classes: k.

    Returns:
      [n] float32, 0 for masked rows, and [k] bool.
    """
    own = mask.astype(jnp.float32)
    count = jax.ops.segment_sum(own, label, num_segments=classes)
    known = count > 0
    share = jnp.maximum(count[label] * jnp.sum(known), 1.0)
    return own / share, known


def balanced_classifier(
    e: Array, label: Array, mask: Array, *, classes: int, steps: int, rate: float
) -> Head:
    """Softmax regression of `label`, by Adam on all rows at once from zero weights.

    It is fitted to standardised features, and given for features as they are.

    Args:
      e: [n f] features.
      label: [n] int.
      mask: [n] bool, rows that count.
      classes: k; those without rows are never chosen.
      steps: updates.
      rate: of learning.
    """
    weight, known = balanced_weights(label, mask, classes)
    mean = jnp.matmul(weight, e, precision="highest")
    var = jnp.matmul(weight, jnp.square(e - mean[None]), precision="highest")
    scale = jax.lax.rsqrt(var + SPREAD)
    x = jnp.where(mask[:, None], (e - mean[None]) * scale[None], 0.0)

    def loss(head: Head) -> Array:
        logits = jnp.matmul(x, head["kernel"], precision="highest") + head["bias"][None]
        logits = jnp.where(known[None], logits, NEVER)
        return jnp.sum(weight * cross_entropy(logits, label, mask))

    adam = optax.adam(rate)

    def step(_: Any, carry: tuple[Head, Any]) -> tuple[Head, Any]:
        head, moments = carry
        updates, moments = adam.update(jax.grad(loss)(head), moments)
        return optax.apply_updates(head, updates), moments

    start = {
        "kernel": jnp.zeros((e.shape[1], classes)),
        "bias": jnp.zeros(classes),
    }
    head, _ = jax.lax.fori_loop(0, steps, step, (start, adam.init(start)))
    kernel = head["kernel"] * scale[:, None]
    bias = head["bias"] - jnp.matmul(mean, kernel, precision="highest")
    return among({"kernel": kernel, "bias": bias}, known)
