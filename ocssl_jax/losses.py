"""Objectives as pure functions on arrays, each per row and respecting a row mask."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from ocssl_jax.backbones.norm import EPSILON as NORM_EPSILON
from ocssl_jax.backbones.norm import moments, visible
from ocssl_jax.core import Array

Distance = Callable[[Array, Array, Array], Array]  # (p [n d], target, mask) -> [n]

EPSILON = 1e-12  # inside the root: a zero vector keeps a zero, finite gradient


def unit(x: Array) -> Array:
    """Rows of `x` [... d] scaled to length 1; a zero row stays zero."""
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + EPSILON)


def cosine(x: Array, y: Array) -> Array:
    """Cosine similarity [...] of the last axes of `x` and `y` [... d]."""
    return jnp.sum(unit(x) * unit(y), axis=-1)


def masked_mean(values: Array, mask: Array) -> Array:
    """Mean [] of `values` [n] over the rows where `mask` [n] is True; 0 if none is."""
    chex.assert_equal_shape([values, mask])
    total = jnp.sum(jnp.where(mask, values, 0.0))
    return total / jnp.maximum(jnp.sum(mask), 1)


def cross_entropy(logits: Array, label: Array, mask: Array) -> Array:
    """Softmax cross entropy [n] of `logits` [n k] with `label` [n]; masked rows are 0.

    Labels outside 0 .. k - 1 have no logit and must not occur in real rows.
    """
    chex.assert_shape([label, mask], logits.shape[:1])
    logits = visible(logits.astype(jnp.float32), mask)
    own = jax.nn.one_hot(label, logits.shape[1], dtype=logits.dtype)
    rows = jax.nn.logsumexp(logits, axis=1) - jnp.sum(own * logits, axis=1)
    return visible(rows, mask)


def nt_xent(z1: Array, z2: Array, mask: Array, *, temperature: float) -> Array:
    """Normalised temperature-scaled cross entropy of SimCLR (Chen et al. 2020, eq. 1).

    Args:
      z1: [n d] projections of the first view.
      z2: [n d] projections of the second view.
      mask: [n] bool, the rows that take part, as anchors and as negatives.
      temperature: the paper's tau.

    Returns:
      [n] the mean of each row's two terms, so that the mean over real rows is the
      paper's loss over 2n anchors; masked rows are 0.
    """
    chex.assert_equal_shape([z1, z2])
    n = z1.shape[0]
    chex.assert_shape(mask, (n,))
    u = unit(jnp.concatenate([z1, z2]).astype(jnp.float32))  # [2n d]
    # In full float32 on every platform: an accelerator would round to TF32.
    similarity = jnp.matmul(u, u.T, precision="highest") / temperature
    other = jnp.tile(mask, 2)[None, :] & ~jnp.eye(2 * n, dtype=bool)
    positive = jnp.sum(u[:n] * u[n:], axis=-1) / temperature  # [n]
    # A finite floor instead of -inf keeps fully masked rows finite, gradient included.
    log_z = jax.nn.logsumexp(jnp.where(other, similarity, -1e9), axis=-1)
    terms = log_z - jnp.tile(positive, 2)
    return jnp.where(mask, (terms[:n] + terms[n:]) / 2, 0.0)


def sup_con(
    z: Array, mask: Array, anchors: Array, positive: Array, *, temperature: float
) -> Array:
    """Supervised contrastive loss (Khosla et al. 2020, eq. 2, the mean outside).

    Args:
      z: [2 n d] projections of two views.
      mask: [n] bool, rows that are positives and negatives.
      anchors: [n] bool, real rows that the loss is of.
      positive: [n n] bool; a row's other view always is one.
      temperature: of the cosine similarities.

    Returns:
      [] the mean over both views of the anchors; 0 without anchors.
    """
    n = len(mask)
    u = unit(z.reshape(2 * n, -1))
    logits = jnp.matmul(u, u.T, precision="highest") / temperature
    other = ~jnp.eye(2 * n, dtype=bool)
    # A finite floor instead of -inf keeps rows without company finite.
    seen = jnp.where(jnp.tile(mask, 2)[None, :] & other, logits, -1e9)
    log_p = logits - jax.nn.logsumexp(seen, axis=1)[:, None]
    pull = jnp.tile(positive | jnp.eye(n, dtype=bool), (2, 2)) & other
    mean = jnp.sum(jnp.where(pull, log_p, 0.0), axis=1) / jnp.sum(pull, axis=1)
    return -masked_mean(mean, jnp.tile(anchors, 2))


def negative_cosine(prediction: Array, target: Array, mask: Array) -> Array:
    """Rows [n] of -cos(`prediction`, `target`), both [n d]; masked rows are 0."""
    _check_pair(prediction, target, mask)
    return -cosine(visible(prediction, mask), visible(target, mask))


def normalized_square(prediction: Array, target: Array, mask: Array) -> Array:
    """Square distance [n] between rows [n d] of length 1, 2 - 2 cos; masked ones 0."""
    return visible(2.0 + 2.0 * negative_cosine(prediction, target, mask), mask)


def mean_square(prediction: Array, target: Array, mask: Array) -> Array:
    """Mean over d of the square difference of rows [n d]; masked rows are 0."""
    _check_pair(prediction, target, mask)
    return jnp.mean(jnp.square(visible(prediction - target, mask)), axis=-1)


def swapped(distance: Distance, prediction: Array, target: Array, mask: Array) -> Array:
    """Each view predicts the other: the sum of both distances, targets held constant.

    Args:
      distance: per row, of a prediction [n d] to a target [n d].
      prediction: [2 n d] of the two views.
      target: [2 n d] of the two views; no gradient flows into it.
      mask: [n] bool, the rows that take part.

    Returns:
      [n] distance(p1, t2) + distance(p2, t1).
    """
    chex.assert_equal_shape([prediction, target])
    chex.assert_axis_dimension(prediction, 0, 2)
    target = jax.lax.stop_gradient(target)
    first = distance(prediction[0], target[1], mask)
    return first + distance(prediction[1], target[0], mask)


def barlow_twins(
    z1: Array, z2: Array, mask: Array, *, off_diagonal: float, scale: float
) -> Array:
    """Cross-correlation of two views against the identity (Zbontar et al. 2021, eq. 1).

    Args:
      z1: [n d] projections of the first view.
      z2: [n d] projections of the second view.
      mask: [n] bool, the rows that statistics are over.
      off_diagonal: the paper's lambda.
      scale: of the whole loss.

    Returns:
      [n] the batch's loss in every real row, 0 in masked ones. Fewer than two rows have
      no correlation: it counts as 0, and so does its gradient.
    """
    _check_pair(z1, z2, mask)
    rows = jnp.maximum(jnp.sum(mask, dtype=jnp.float32), 1.0)
    s1, s2 = _standardised(z1, mask), _standardised(z2, mask)
    own = jnp.sum(s1 * s2, axis=0) / rows  # [d], the correlations C_ii
    others = _squares(s1, s2) / rows**2 - jnp.sum(jnp.square(own))
    loss = scale * (jnp.sum(jnp.square(1.0 - own)) + off_diagonal * others)
    return jnp.where(mask, loss, 0.0)


def vicreg(
    z1: Array,
    z2: Array,
    mask: Array,
    *,
    invariance: float,
    variance: float,
    covariance: float,
) -> Array:
    """Variance, invariance and covariance of two views (Bardes et al. 2022, eq. 6).

    Two terms are as CaSSLe has them, where text and the authors' code differ: the
    invariance is a mean over dimensions (a sum in equation 5, a mean in the code), the
    hinges of both views are added (so equation 6; the code halves them).

    Args:
      z1: [n d] projections of the first view.
      z2: [n d] projections of the second view.
      mask: [n] bool, the rows that take part.
      invariance: the paper's lambda, of the views' distance.
      variance: the paper's mu, of both views' hinge on the standard deviations.
      covariance: the paper's nu, of both views' covariances.

    Returns:
      [n] each row's own invariance and, in every real row, the batch's other terms;
      masked rows are 0. Fewer than two rows have no variance: it counts as 0, and so
      does its gradient.
    """
    own = invariance * mean_square(z1, z2, mask)
    (hinge1, off1), (hinge2, off2) = _spread(z1, mask), _spread(z2, mask)
    shared = variance * (hinge1 + hinge2) + covariance * (off1 + off2)
    return own + jnp.where(mask, shared, 0.0)


def _check_pair(x: Array, y: Array, mask: Array) -> None:
    """Both [n d], with a mask [n]."""
    chex.assert_equal_shape([x, y])
    chex.assert_shape(mask, (x.shape[0],))


def _standardised(z: Array, mask: Array) -> Array:
    """`z` [n d] with mean 0 and variance 1 over the real rows; masked rows are 0."""
    mean, var, _ = moments(z, mask)
    return visible(z - mean, mask) * jax.lax.rsqrt(var + NORM_EPSILON)


def _squares(x: Array, y: Array) -> Array:
    """Sum [] of the squares of xᵀ y, for x and y [n d].

    |xᵀ y|² = <x xᵀ, y yᵀ>, so that of [n n] and [d d] the smaller is made.
    """
    n, d = x.shape
    if n >= d:
        return jnp.sum(jnp.square(jnp.matmul(x.T, y, precision="highest")))
    gram = lambda a: jnp.matmul(a, a.T, precision="highest")
    return jnp.sum(gram(x) * gram(y))


def _spread(z: Array, mask: Array) -> tuple[Array, Array]:
    """VICReg's variance and covariance terms [] of one view [n d] (eq. 1 to 4)."""
    mean, _, count = moments(z, mask)
    centred = visible(z - mean, mask)
    products = jnp.matmul(centred.T, centred, precision="highest")
    matrix = products / jnp.maximum(count - 1.0, 1.0)  # [d d]
    deviation = jnp.sqrt(jnp.diagonal(matrix) + 1e-4)
    diagonal = jnp.eye(z.shape[1], dtype=bool)
    off = jnp.sum(jnp.where(diagonal, 0.0, jnp.square(matrix))) / z.shape[1]
    return jnp.mean(jax.nn.relu(1.0 - deviation)), off
