"""Heads on a backbone: projector and predictor of the SSL papers, aligner of CLA.

The projector's last layer has no bias: the references freeze it at random, and the
batch norm that follows (or the standardisation in the loss) removes it again.
"""

import chex
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from ocssl_jax.backbones.linear import Linear
from ocssl_jax.backbones.norm import BatchNorm, visible
from ocssl_jax.core import Array

__all__ = ["Aligner", "Identity", "Linear", "Predictor", "Projector"]


class Projector(nn.Module):
    """Three layers, the hidden ones as wide as the features (Chen & He 2021).

    Attributes:
      features: outputs d.
      final_norm: ends with a batch norm without scale; Barlow Twins and VICReg, whose
        losses look at each dimension's spread, go without it.
      dtype: of the computation; parameters, statistics and outputs are float32.
    """

    features: int
    final_norm: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None = None) -> Array:
        """Features [n f] -> projections [n d] float32; masked rows are 0."""
        chex.assert_rank(x, 2)
        hidden = x.shape[1]
        x = visible(x, mask)
        for i in (1, 2):
            x = Linear(hidden, False, self.dtype, name=f"linear{i}")(x)
            norm = BatchNorm(affine=True, name=f"norm{i}")
            x = nn.relu(norm(x, train=train, mask=mask))
        x = Linear(self.features, False, self.dtype, name="linear3")(x)
        x = x.astype(jnp.float32)
        if not self.final_norm:
            return x
        return BatchNorm(affine=False, name="norm3")(x, train=train, mask=mask)


class Predictor(nn.Module):
    """Two layers, from projections to projections (Grill et al. 2020).

    Attributes:
      hidden: width of the layer between.
      features: outputs d.
      dtype: of the computation; parameters, statistics and outputs are float32.
    """

    hidden: int
    features: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None = None) -> Array:
        """[n d'] -> [n d] float32; masked rows are 0."""
        chex.assert_rank(x, 2)
        x = Linear(self.hidden, False, self.dtype, name="linear1")(visible(x, mask))
        x = nn.relu(BatchNorm(affine=True, name="norm1")(x, train=train, mask=mask))
        x = Linear(self.features, True, self.dtype, name="linear2")(x)
        return visible(x.astype(jnp.float32), mask)


class Aligner(Predictor):
    """The predictor's shape, from the student's space to the teacher's (CLA)."""


class Identity(nn.Module):
    """No head: the projections of a method without a projector are its features."""

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None = None) -> Array:
        """[n f] -> [n f]; masked rows are 0."""
        del train
        return visible(x, mask)
