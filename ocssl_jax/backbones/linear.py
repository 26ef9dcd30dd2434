"""The linear layer and the uniform initialiser that PyTorch's layers start from."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from ocssl_jax.core import Array


def uniform_fan_in(fan_in: int) -> nn.initializers.Initializer:
    """Initialiser U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's for linear and conv.

    Args:
      fan_in: number of inputs of one output, >= 1.

    Returns:
      (key, shape, dtype) -> array; the shape may be that of a weight or of its bias.
    """
    bound = fan_in**-0.5

    def init(key, shape, dtype=jnp.float32, out_sharding=None):
        del out_sharding  # part of the interface; placing arrays is the caller's work
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Linear(nn.Module):
    """Affine map with PyTorch's default initialisation.

    Attributes:
      features: outputs d.
      use_bias: whether the bias is there.
      dtype: of the computation; parameters are float32.
    """

    features: int
    use_bias: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[... f] -> [... d] in `dtype`."""
        init = uniform_fan_in(x.shape[-1])
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", init, shape, jnp.float32)
        y = x.astype(self.dtype) @ kernel.astype(self.dtype)
        if not self.use_bias:
            return y
        bias = self.param("bias", init, (self.features,), jnp.float32)
        return y + bias.astype(self.dtype).reshape((1,) * (y.ndim - 1) + (-1,))
