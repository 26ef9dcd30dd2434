"""ResNet-9, the nine-layer network of the DAWNBench entries (Page 2018)."""

import chex
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from ocssl_jax.backbones.conv import Conv
from ocssl_jax.backbones.linear import uniform_fan_in
from ocssl_jax.backbones.norm import BatchNorm, visible
from ocssl_jax.core import Array


class ResNet9(nn.Module):
    """Eight convolutions in the same shape at every image size, then a global maximum.

    conv w; conv 2w, pool; x + two convs; conv 4w, pool; conv 8w, pool; x + two convs.
    Each conv is 3x3 with a bias, batch norm and ReLU, and starts as PyTorch's does.

    Attributes:
      width: w, channels of the first convolution.
      dtype: of the computation; parameters, statistics and features are float32.
    """

    width: int
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, images: Array, *, train: bool, mask: Array | None = None
    ) -> Array:
        """Normalised images [n h w c], h and w >= 8 -> [n 8w] float32."""
        chex.assert_rank(images, 4)
        if min(images.shape[1:3]) < 8:
            raise ValueError(f"resnet9 needs images of 8x8 or more, got {images.shape}")

        def conv(x: Array, features: int, name: str) -> Array:
            init = uniform_fan_in(9 * x.shape[-1])
            x = Conv(features, 3, 1, True, init, self.dtype, name=f"{name}_conv")(x)
            norm = BatchNorm(affine=True, name=f"{name}_norm")
            return nn.relu(norm(x, train=train, mask=mask))

        def halved(x: Array) -> Array:
            return nn.max_pool(x, (2, 2), strides=(2, 2))

        w = self.width
        x = conv(visible(images, mask), w, "layer1")
        x = halved(conv(x, 2 * w, "layer2"))
        x = x + conv(conv(x, 2 * w, "residual1a"), 2 * w, "residual1b")
        x = halved(conv(x, 4 * w, "layer3"))
        x = halved(conv(x, 8 * w, "layer4"))
        x = x + conv(conv(x, 8 * w, "residual2a"), 8 * w, "residual2b")
        return jnp.max(x, axis=(1, 2)).astype(jnp.float32)
