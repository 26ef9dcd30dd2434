"""Gated layers, act(W x + b) * sigmoid(V x + c), as the classifier of GEN has them."""

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from ocssl_jax.backbones.linear import Linear
from ocssl_jax.backbones.norm import visible
from ocssl_jax.core import Array


class Gated(nn.Module):
    """An affine map times the sigmoid of another one.

    Attributes:
      features: outputs d.
      rectified: whether a ReLU comes before the gate.
      dtype: of the computation; parameters are float32.
    """

    features: int
    rectified: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[... f] -> [... d] in `dtype`."""
        y = Linear(self.features, True, self.dtype, name="linear")(x)
        gate = Linear(self.features, True, self.dtype, name="gate")(x)
        return (nn.relu(y) if self.rectified else y) * nn.sigmoid(gate)


class GatedMlp(nn.Module):
    """Flattened image, one gated ReLU layer.

    Attributes:
      width: features f.
      dtype: of the computation; parameters and features are float32.
    """

    width: int
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, images: Array, *, train: bool, mask: Array | None = None
    ) -> Array:
        """Normalised images [n h w c] -> [n width] float32; no statistics to train."""
        del train
        x = visible(images, mask).reshape(images.shape[0], -1)
        x = Gated(self.width, True, self.dtype, name="features")(x)
        return visible(x.astype(jnp.float32), mask)
