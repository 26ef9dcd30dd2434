"""Heads on a backbone: projector and predictor of the SSL papers, aligner of CLA.

The projector's last layer has no bias by default: the references freeze it at random,
and the batch norm that follows (or the standardisation in the loss) removes it again.
"""

import chex
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from ocssl_jax.backbones.gated import Gated
from ocssl_jax.backbones.linear import Linear
from ocssl_jax.backbones.norm import BatchNorm, visible
from ocssl_jax.core import Array

__all__ = ["Aligner", "GatedHead", "Identity", "Linear", "Predictor", "Projector"]


class Projector(nn.Module):
    """Three layers, the hidden ones as wide as the features (Chen & He 2021).

    Attributes:
      features: outputs d.
      final_norm: ends with a batch norm without scale; Barlow Twins and VICReg, whose
        losses look at each dimension's spread, go without it.
      dtype: of the computation; parameters, statistics and outputs are float32.
      layers: how many, at least 1.
      hidden: width of the hidden layers; 0: that of the features.
      norms: 'all', 'hidden' without the final one, or 'none'; layers without a batch
        norm after them then have a bias.
    """

    features: int
    final_norm: bool
    dtype: DTypeLike
    layers: int = 3
    hidden: int = 0
    norms: str = "all"

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None = None) -> Array:
        """Features [n f] -> projections [n d] float32; masked rows are 0."""
        chex.assert_rank(x, 2)
        width, last = self.hidden or x.shape[1], self.layers
        normed = self.norms != "none"
        x = visible(x, mask)
        for i in range(1, last):
            x = Linear(width, not normed, self.dtype, name=f"linear{i}")(x)
            if normed:
                norm = BatchNorm(affine=True, name=f"norm{i}")
                x = norm(x, train=train, mask=mask)
            x = nn.relu(x)
        bias = self.norms != "all"
        x = Linear(self.features, bias, self.dtype, name=f"linear{last}")(x)
        x = x.astype(jnp.float32)
        if bias:
            return visible(x, mask)
        if not self.final_norm:
            return x
        return BatchNorm(affine=False, name=f"norm{last}")(x, train=train, mask=mask)


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


class GatedHead(nn.Module):
    """One gated layer, whose outputs themselves are gated.

    Attributes:
      features: outputs d.
      dtype: of the computation; parameters and outputs are float32.
    """

    features: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None = None) -> Array:
        """[n f] -> [n d] float32; masked rows are 0."""
        del train
        x = Gated(self.features, False, self.dtype, name="gated")(visible(x, mask))
        return visible(x.astype(jnp.float32), mask)


class Identity(nn.Module):
    """No head: the projections of a method without a projector are its features."""

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None = None) -> Array:
        """[n f] -> [n f]; masked rows are 0."""
        del train
        return visible(x, mask)
