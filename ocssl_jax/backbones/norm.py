"""Batch normalisation (Ioffe & Szegedy 2015) with PyTorch's running statistics.

Two things set it apart from `flax.linen.BatchNorm`: the running variance collects the
unbiased batch variance, as PyTorch's does, while the batch is normalised with the
biased one; and masked rows are invisible even if they hold NaN or infinity.
"""

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from ocssl_jax.backbones.late import late
from ocssl_jax.core import Array

MOMENTUM = 0.1  # PyTorch's: the weight of the new batch
EPSILON = 1e-5


def visible(x: Array, mask: Array | None) -> Array:
    """`x` [n ...] with the rows where `mask` [n] is False set to 0, whatever they hold.

    A masked row that is 0 on the way in and out adds nothing to any sum over rows, and
    no NaN in it reaches a gradient (0 * NaN is NaN, a selected 0 is 0).
    """
    if mask is None:
        return x
    chex.assert_shape(mask, x.shape[:1])
    rows = mask.reshape(x.shape[:1] + (1,) * (x.ndim - 1))
    return jnp.where(rows, x, jnp.zeros((), x.dtype))


def moments(x: Array, mask: Array | None) -> tuple[Array, Array, Array]:
    """Mean, biased variance and number of the values of each channel.

    The variance is the mean square distance to the mean: the shorter E[x^2] - E[x]^2
    loses all digits where a channel's mean is large beside its spread.

    Args:
      x: [n ... c] float32.
      mask: [n] bool, the rows that count; None counts all.

    Returns:
      mean [1 ... 1 c], variance [1 ... 1 c], both 0 if no row counts, and the number []
      of values behind each, 0 if no row counts.
    """
    n, channels = x.shape[0], x.shape[-1]
    rows = jnp.float32(n) if mask is None else jnp.sum(mask, dtype=jnp.float32)
    count = rows * jnp.float32(x.size // (n * channels))
    axes = tuple(range(x.ndim - 1))
    share = 1.0 / jnp.maximum(count, 1.0)
    mean = jnp.sum(visible(x, mask), axis=axes, keepdims=True) * share
    square = jnp.square(visible(x - mean, mask))
    return mean, jnp.sum(square, axis=axes, keepdims=True) * share, count


@jax.custom_vjp
def normalised(
    x: Array, scale: Array, bias: Array, mask: Array | None
) -> tuple[Array, tuple[Array, Array, Array]]:
    """Rows with mean 0 and variance 1 in each channel, scaled and moved; and `moments`.

    Autodiff would keep the centred values beside `x` until the gradient is due; this
    keeps `x` alone, which the convolution before has made anyway. Nothing flows back
    through the moments, which are for the running statistics.

    Args:
      x: [n ... c] float32.
      scale: [1 ... 1 c].
      bias: [1 ... 1 c].
      mask: [n] bool, False for rows that come out as 0; None counts all.
    """
    mean, variance, count = moments(x, mask)
    y = visible(x - mean, mask) * (lax.rsqrt(variance + EPSILON) * scale) + bias
    return visible(y, mask), (mean, variance, count)


def _forward(x, scale, bias, mask):
    y, found = normalised(x, scale, bias, mask)
    return (y, found), (x, scale, mask, found)


def _backward(kept, steps):
    x, scale, mask, (mean, variance, count) = kept
    dy = visible(steps[0], mask)
    axes = tuple(range(x.ndim - 1))
    shrink = lax.rsqrt(variance + EPSILON)
    dbias = jnp.sum(dy, axis=axes, keepdims=True)
    unit = visible(x - late(mean, dbias), mask) * shrink
    dscale = jnp.sum(dy * unit, axis=axes, keepdims=True)
    common = (dbias + unit * dscale) / jnp.maximum(count, 1.0)
    return visible(dy - common, mask) * (shrink * scale), dscale, dbias, None


normalised.defvjp(_forward, _backward)


def _moved(running: Array, batch: Array, count: Array) -> Array:
    """`running` [c] one step towards `batch` [1 ... c].

    A single value says nothing of the spread (torch refuses it): nothing moves then.
    """
    rate = jnp.where(count > 1, MOMENTUM, 0.0)
    return running + rate * (lax.stop_gradient(batch).reshape(running.shape) - running)


class BatchNorm(nn.Module):
    """Normalises each channel over the unmasked rows and all places of an image.

    Statistics are float32 whatever the dtype of the input. When the batch axis is
    sharded under `jit`, they are those of the global batch.

    Attributes:
      affine: whether a scale and a bias are learnt.
      scale_init: initialiser of the scale; zeros makes a residual block the identity.
    """

    affine: bool
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None = None) -> Array:
        """Normalises `x`.

        Args:
          x: [n ... c] of any float dtype.
          train: use the batch's statistics, and move the running ones towards them if
            the collection 'batch_stats' is mutable; otherwise use the running ones.
          mask: [n] bool, False for rows that must not count; they come out as 0. None
            counts all rows.

        Returns:
          [n ... c] in the dtype of `x`.
        """
        channels = x.shape[-1:]
        wide = (1,) * (x.ndim - 1) + channels
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        scale, bias = jnp.ones(wide), jnp.zeros(wide)
        if self.affine:
            zeros = nn.initializers.zeros
            scale = self.param("scale", self.scale_init, channels, jnp.float32)
            bias = self.param("bias", zeros, channels, jnp.float32)
            scale, bias = scale.reshape(wide), bias.reshape(wide)
        x32 = x.astype(jnp.float32)
        if not train:
            center = mean.value.reshape(wide)
            scale = scale * lax.rsqrt(var.value.reshape(wide) + EPSILON)
            y = visible(visible(x32 - center, mask) * scale + bias, mask)
            return y.astype(x.dtype)
        y, (center, spread, count) = normalised(x32, scale, bias, mask)
        if self.is_mutable_collection("batch_stats") and not self.is_initializing():
            unbiased = spread * (count / jnp.maximum(count - 1.0, 1.0))
            mean.value = _moved(mean.value, center, count)
            var.value = _moved(var.value, unbiased, count)
        return y.astype(x.dtype)
