"""A plain convolutional network, small enough to learn a stream on a CPU."""

import chex
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from ocssl_jax.backbones.conv import Conv
from ocssl_jax.backbones.linear import uniform_fan_in
from ocssl_jax.backbones.norm import BatchNorm, visible
from ocssl_jax.core import Array


class ConvNet(nn.Module):
    """Four blocks of 3x3 convolution, batch norm and ReLU, then a global mean.

    The channels are w, 2w, 4w, 4w. The last three blocks halve the image, so that
    32x32 ends at 4x4, 28x28 at 4x4 and 8x8 at 1x1; any size works.

    Attributes:
      width: w, channels of the first block.
      dtype: of the computation; parameters, statistics and features are float32.
    """

    width: int
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, images: Array, *, train: bool, mask: Array | None = None
    ) -> Array:
        """Normalised images [n h w c] -> [n 4w] float32; masked rows are 0."""
        chex.assert_rank(images, 4)
        x = visible(images, mask)
        for i, (factor, stride) in enumerate(((1, 1), (2, 2), (4, 2), (4, 2)), start=1):
            init = uniform_fan_in(9 * x.shape[-1])
            width = factor * self.width
            x = Conv(width, 3, stride, False, init, self.dtype, name=f"conv{i}")(x)
            x = BatchNorm(affine=True, name=f"norm{i}")(x, train=train, mask=mask)
            x = nn.relu(x)
        return jnp.mean(x.astype(jnp.float32), axis=(1, 2))
