"""A two-layer perceptron: the cheapest network that learns, for tests and toys."""

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from ocssl_jax.backbones.linear import Linear
from ocssl_jax.backbones.norm import visible
from ocssl_jax.core import Array


class Mlp(nn.Module):
    """Flattened image, hidden ReLU layer, ReLU features, both of the same width.

    Attributes:
      width: units of the hidden layer and of the features.
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
        x = nn.relu(Linear(self.width, True, self.dtype, name="hidden")(x))
        x = nn.relu(Linear(self.width, True, self.dtype, name="features")(x))
        return visible(x.astype(jnp.float32), mask)
