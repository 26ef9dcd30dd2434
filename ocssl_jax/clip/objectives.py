"""What the fine-tuning of CLIP minimises, each as a pure function on a batch.

Rows of a batch come with a `share`: over the draws of batches, the sum of share · f
over a class's rows is the mean of f over that class in the pool. So one rule serves
every sampler (`sampler.py` gives the shares) and every weighting of classes:

  loss = sum_i weight[class of i] share_i f_i

* GCL (eq. 1 of the paper [R+]): weight = n_k / n, the mean over the pool;
* group DRO (eq. 6): weight = p_k, more for classes that are worse off, see `robust`.

Dividing by the classes of a batch instead, as comes to mind, is biased.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import struct

from ocssl_jax.clip.contrast import Contrast
from ocssl_jax.core import Array
from ocssl_jax.losses import masked_mean


@struct.dataclass
class ClassLosses:
    """Moving averages v of the classes' losses, kept across tasks."""

    value: Array  # [k] float32
    seen: Array  # [k] bool, classes that have one


class Dro(NamedTuple):
    """What group DRO found out."""

    loss: Array  # [] has the gradient; its value means nothing
    value: Array  # [] the objective (6), of the moving averages
    weight: Array  # [k] p, 0 for classes that are not in the pool


def class_losses(classes: int) -> ClassLosses:
    """Those of `classes` classes before any was seen."""
    return ClassLosses(jnp.zeros(classes, jnp.float32), jnp.zeros(classes, bool))


def of_classes(rows: Array, share: Array, label: Array, weight: Array) -> Array:
    """The sum [] of weight[label] · share · rows, see the module's docstring.

    Args:
      rows: [n], 0 where a row does not count.
      share: [n] float32.
      label: [n] int32 in 0 .. k-1.
      weight: [k].
    """
    chex.assert_equal_shape([rows, share, label])
    return jnp.sum(weight[label] * share * rows)


def global_contrastive(
    found: Contrast, share: Array, label: Array, counts: Array
) -> Array:
    """GCL's loss [] over the pool; the gradient is that of equation 4 [R+].

    Args:
      found: of `contrast.contrast` with the linear surrogate.
      share: [n] of the rows.
      label: [n] int32.
      counts: [k] rows of each class in the pool.
    """
    weight = counts / jnp.maximum(jnp.sum(counts), 1)
    return of_classes(found.surrogate, share, label, weight)


def robust(
    losses: Array, active: Array, strength: Array | float
) -> tuple[Array, Array]:
    """The worst mixture of the active classes' losses, near the even one (eq. 6 [R+]).

      max over p of  sum_k p_k L_k - strength KL(p || even)
        = strength log mean_k exp(L_k / strength),   p = softmax(L / strength)

    A large strength gives the mean of the losses, a small one the largest of them.

    Args:
      losses: [k]; those that are not active do not matter.
      active: [k] bool, the classes in the pool: old ones without rows would take weight
        from the others and make the step short. At least one.
      strength: lambda > 0 of the Kullback-Leibler term.

    Returns:
      The value [] and p [k].
    """
    scaled = jnp.where(active, losses / strength, -jnp.inf)
    value = strength * jax.nn.logsumexp(scaled) - strength * jnp.log(jnp.sum(active))
    return value, jax.nn.softmax(scaled)


def group_dro(
    state: ClassLosses,
    found: Contrast,
    share: Array,
    label: Array,
    active: Array,
    *,
    rate: Array | float,
    strength: Array | float,
) -> tuple[Dro, ClassLosses]:
    """Group DRO over classes with moving averages of their losses (eq. 5 and 6).

    That classes of higher loss weigh more, and moving averages for the losses as well
    as for the contrasts, are stated [S]; the table of averages and its exact softmax
    are our choice [R]. A class of the pool that no batch has shown yet counts with
    the mean of the others, so that the first steps are no longer than later ones.

    Args:
      state: the averages before.
      found: of `contrast.contrast` with the squared hinge.
      share: [n] of the rows.
      label: [n] int32.
      active: [k] bool, the classes in the pool.
      rate: gamma_2 in (0, 1], the weight of the new value.
      strength: lambda, see `robust`.
    """
    chex.assert_equal_shape([state.value, state.seen, active])
    total = lambda x: jax.ops.segment_sum(x, label, num_segments=len(active))
    rows = total(found.counts.astype(found.value.dtype))
    batch = total(found.value) / jnp.maximum(rows, 1.0)
    mixed = jnp.where(state.seen, (1 - rate) * state.value + rate * batch, batch)
    new = ClassLosses(
        value=jnp.where(rows > 0, mixed, state.value), seen=state.seen | (rows > 0)
    )
    known = new.seen & active
    losses = jnp.where(known, new.value, masked_mean(new.value, known))
    value, weight = jax.lax.stop_gradient(robust(losses, active, strength))
    loss = of_classes(found.surrogate, share, label, weight)
    return Dro(loss, value, weight), new


def info_nce(
    similarity: Array, text: Array, mask: Array, *, temperature: Array | float
) -> Array:
    """CLIP's symmetric loss of each row [n] (Radford et al. 2021, figure 3).

    Other rows of the same text are no negatives, as they would be if texts were
    captions. Masked rows are 0.

    Args:
      similarity: [n n] float32, s(x_i, t_j).
      text: [n] int32, equal where the texts are.
      mask: [n] bool.
      temperature: tau.
    """
    chex.assert_equal_shape([text, mask])
    own = jnp.eye(len(text), dtype=bool)
    kept = own | ((text[:, None] != text[None, :]) & mask[:, None] & mask[None, :])
    logits = similarity / temperature
    positive = jnp.diagonal(logits)
    image = jax.nn.logsumexp(logits, axis=1, where=kept)
    texts = jax.nn.logsumexp(logits, axis=0, where=kept)
    return jnp.where(mask, (image + texts) / 2 - positive, 0.0)


def cross_entropy(
    similarity: Array,
    label: Array,
    candidates: Array,
    mask: Array,
    *,
    temperature: Array | float,
) -> Array:
    """Cross entropy [n] over the candidate classes; masked rows are 0.

    Args:
      similarity: [n k] float32 of images and class texts.
      label: [n] int32, of candidates.
      candidates: [k] bool, the classes seen so far.
      mask: [n] bool.
      temperature: tau; exp(-logit_scale) for CLIP's own.
    """
    chex.assert_shape(similarity, (*label.shape, *candidates.shape))
    logits = similarity / temperature
    kept = jnp.broadcast_to(candidates[None], logits.shape)
    log_z = jax.nn.logsumexp(logits, axis=1, where=kept)
    positive = jnp.take_along_axis(logits, label[:, None], axis=1)[:, 0]
    return jnp.where(mask, log_z - positive, 0.0)
