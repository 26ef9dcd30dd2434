"""Residual networks (He et al. 2016), shaped and initialised as torchvision's.

Images of at most 32 pixels get the usual small stem, one 3x3 convolution without
pooling, because the ImageNet stem would shrink them to 8x8 before the first block.
"""

from functools import partial

import chex
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from ocssl_jax.backbones.conv import Conv
from ocssl_jax.backbones.linear import uniform_fan_in
from ocssl_jax.backbones.norm import BatchNorm, visible
from ocssl_jax.core import Array

# Kaiming-normal by fan-out with the gain of a ReLU (He et al. 2015).
kaiming_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Block(nn.Module):
    """A residual block, relu(shortcut(x) + branch(x)), the identity when it starts.

    The branch is two 3x3 convolutions, or 1x1, 3x3, 1x1 with four times the channels
    at the end (bottleneck; the 3x3 has the stride, as in torchvision). Its last scale
    starts at 0. Where shapes differ the shortcut is a 1x1 convolution.

    Attributes:
      width: channels inside the block.
      stride: 2 halves the image.
      bottleneck: which of the two branches.
      dtype: of the computation.
      untuned: as `ResNet` has it.
    """

    width: int
    stride: int
    bottleneck: bool
    dtype: DTypeLike
    untuned: bool = False

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None = None) -> Array:
        """[n h w c] -> [n h/stride w/stride c']."""

        def conv(x: Array, features: int, size: int, stride: int, name: str) -> Array:
            plain = uniform_fan_in(size**2 * x.shape[-1])
            init = plain if self.untuned else kaiming_fan_out
            layer = Conv(features, size, stride, False, init, self.dtype, name=name)
            return layer(x)

        norm = partial(BatchNorm, affine=True)

        if self.bottleneck:
            layers = [(1, 1, 1), (1, 3, self.stride), (4, 1, 1)]
        else:
            layers = [(1, 3, self.stride), (1, 3, 1)]
        y = x
        for i, (factor, size, stride) in enumerate(layers, start=1):
            features = factor * self.width
            last = i == len(layers)
            zero = last and not self.untuned
            init = nn.initializers.zeros if zero else nn.initializers.ones
            y = conv(y, features, size, stride, f"conv{i}")
            y = norm(scale_init=init, name=f"norm{i}")(y, train=train, mask=mask)
            y = y if last else nn.relu(y)
        if x.shape != y.shape:
            x = conv(x, y.shape[-1], 1, self.stride, "shortcut_conv")
            x = norm(name="shortcut_norm")(x, train=train, mask=mask)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """ResNet without its classifier.

    Attributes:
      blocks: residual blocks of each of the four stages.
      bottleneck: kind of block.
      width: channels of the stem and the first stage; each stage doubles it.
      small_stem: 3x3 without pooling instead of 7x7 with stride 2 and a max-pool.
      dtype: of the computation; parameters, statistics and features are float32.
      padding: pixels around the image in the small stem; solo-learn's and CaSSLe's
        have 2, which makes 34x34 of 32x32.
      untuned: all layers start as PyTorch's layers do by themselves, no branch as 0.
      window: side of the average pool's windows, whose means are the features, what
        fills no window left out; 0 is one mean over all places.
    """

    blocks: tuple[int, int, int, int]
    bottleneck: bool
    width: int
    small_stem: bool
    dtype: DTypeLike
    padding: int = 1
    untuned: bool = False
    window: int = 0

    @nn.compact
    def __call__(
        self, images: Array, *, train: bool, mask: Array | None = None
    ) -> Array:
        """Normalised images [n h w c] -> features [n f] float32; masked rows are 0."""
        chex.assert_rank(images, 4)
        x = self.stem(visible(images, mask), train, mask)
        for stage, count in enumerate(self.blocks):
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                block = Block(
                    self.width * 2**stage,
                    stride,
                    self.bottleneck,
                    self.dtype,
                    self.untuned,
                    name=f"stage{stage + 1}_block{i + 1}",
                )
                x = block(x, train=train, mask=mask)
        x = x.astype(jnp.float32)
        if not self.window:
            return jnp.mean(x, axis=(1, 2))
        side = (self.window, self.window)
        return nn.avg_pool(x, side, side, "VALID").reshape(x.shape[0], -1)

    def stem(self, x: Array, train: bool, mask: Array | None) -> Array:
        """[n h w c] -> [n h w width], or a quarter of the side with the large stem."""
        size, stride, pad, init = 7, 2, 3, kaiming_fan_out
        if self.small_stem:
            # Reference code swaps this layer in afterwards, so that it keeps the
            # default initialisation of its framework.
            init = uniform_fan_in(9 * x.shape[-1])
            size, stride, pad = 3, 1, self.padding
        stem = Conv(
            self.width, size, stride, False, init, self.dtype, pad, name="stem_conv"
        )
        x = stem(x)
        x = nn.relu(BatchNorm(affine=True, name="stem_norm")(x, train=train, mask=mask))
        if self.small_stem:
            return x
        return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
