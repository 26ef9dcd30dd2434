"""The convolutional autoencoder of AE-MIR (Aljundi et al. 2019), of d channels.

x [h w c] -> 3 times (conv 4x4, stride 2; norm; ReLU) -> block; norm; block -> code
code -> 2 times (block; norm) -> 2 times (transposed conv 4x4, stride 2; norm; ReLU)
     -> transposed conv 4x4, stride 2; tanh
block(x) = x + conv 1x1(ReLU(norm(conv 3x3(ReLU(x)))))

Images are in [-1, 1]. A code is d h w / 64 numbers: with d = 20 an image of three
channels has 9.6 times as many. All is float32, whatever the precision of the learner.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from ocssl_jax.backbones.conv import Conv
from ocssl_jax.backbones.linear import uniform_fan_in
from ocssl_jax.backbones.norm import BatchNorm, visible
from ocssl_jax.core import Array, Key, Params, Variables
from ocssl_jax.losses import masked_mean

SHRINK = 8  # sides of an image over those of a code


class Autoencoder(NamedTuple):
    """Pure functions of one autoencoder; rows that `mask` [n] leaves out do not count.

    Without `train` BN has its running statistics; with it those of the rows.
    """

    init: Callable[[Key], Variables]
    encode: Callable[..., Array]  # (variables, x [n h w c], *, train, mask) -> [n z]
    decode: Callable[..., Array]  # (variables, code [n z], *, train, mask) -> x
    # (params, batch_stats, x, mask) -> squared error [] a value, moved statistics
    loss: Callable[[Params, Any, Array, Array], tuple[Array, Any]]


class Block(nn.Module):
    """A residual block that keeps the number of channels.

    A bias that the next norm takes away is not trained: its gradient is a rounding
    error, which Adam would make whole steps of.

    Attributes:
      normed: whether a norm follows the block.
    """

    normed: bool

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None) -> Array:
        """[n h w d] -> [n h w d]."""
        d = x.shape[3]

        def conv(y: Array, size: int, *, normed: bool) -> Array:
            init = uniform_fan_in(size**2 * d)
            y = Conv(d, size, 1, False, init, jnp.float32, name=f"conv{size}")(y)
            bias = self.param(f"bias{size}", init, (d,), jnp.float32)
            bias = lax.stop_gradient(bias) if normed else bias
            return y + bias.reshape(1, 1, 1, d)

        y = conv(nn.relu(x), 3, normed=True)
        y = BatchNorm(affine=True, name="norm")(y, train=train, mask=mask)
        return x + conv(nn.relu(y), 1, normed=self.normed)


class Up(nn.Module):
    """Transposed convolution 4x4 of stride 2, which doubles the sides.

    It is a correlation of the image with zeros between its pixels, so that its gradient
    is that of any other convolution here.

    Attributes:
      features: output channels.
    """

    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[n h w i] -> [n 2h 2w o]."""
        between = [(0, 0, 0), (0, 0, 1), (0, 0, 1), (0, 0, 0)]
        spread = lax.pad(x, jnp.zeros((), x.dtype), between)
        init = uniform_fan_in(16 * self.features)  # PyTorch counts the outputs here
        return Conv(self.features, 4, 1, False, init, jnp.float32, pad=2)(spread)


class ConvAutoencoder(nn.Module):
    """Both halves.

    Attributes:
      shape: of an image, (h, w, c).
      width: channels d.
    """

    shape: tuple[int, ...]
    width: int

    def setup(self) -> None:
        """The layers, started as PyTorch's are."""
        d, c = self.width, self.shape[2]
        down = lambda i: Conv(
            d, 4, 2, False, uniform_fan_in(16 * i), jnp.float32, pad=1
        )
        norms = lambda count: [BatchNorm(affine=True) for _ in range(count)]
        self.down, self.down_norm = [down(i) for i in (c, d, d)], norms(3)
        self.inner, self.inner_norm = [Block(True), Block(False)], norms(1)
        self.outer, self.outer_norm = [Block(True), Block(True)], norms(2)
        self.up, self.up_norm = [Up(d), Up(d), Up(c)], norms(2)

    def encode(self, x: Array, *, train: bool, mask: Array | None) -> Array:
        """Images [n h w c] -> codes [n z]."""
        for conv, norm in zip(self.down, self.down_norm, strict=True):
            x = nn.relu(norm(conv(x), train=train, mask=mask))
        x = self.inner[0](x, train=train, mask=mask)
        x = self.inner_norm[0](x, train=train, mask=mask)
        x = self.inner[1](x, train=train, mask=mask)
        return x.reshape(len(x), -1)

    def decode(self, code: Array, *, train: bool, mask: Array | None) -> Array:
        """Codes [n z] -> images [n h w c] in (-1, 1)."""
        h, w, _ = self.shape
        x = code.reshape(len(code), h // SHRINK, w // SHRINK, self.width)
        for block, norm in zip(self.outer, self.outer_norm, strict=True):
            x = norm(block(x, train=train, mask=mask), train=train, mask=mask)
        for up, norm in zip(self.up[:2], self.up_norm, strict=True):
            x = nn.relu(norm(up(x), train=train, mask=mask))
        return nn.tanh(self.up[2](x))

    def __call__(self, x: Array, *, train: bool, mask: Array | None) -> Array:
        """Images [n h w c] -> what is left of them."""
        code = self.encode(x, train=train, mask=mask)
        return self.decode(code, train=train, mask=mask)


def make_autoencoder(shape: tuple[int, ...], *, width: int) -> Autoencoder:
    """The functions of a `ConvAutoencoder`; see there.

    Raises:
      ValueError: if the sides of an image do not shrink to whole numbers.
    """
    if any(side % SHRINK for side in shape[:2]):
        sides = " x ".join(map(str, shape[:2]))
        raise ValueError(
            f"the autoencoder needs images whose sides are multiples of {SHRINK} "
            f"(stream.image_size), got {sides}"
        )
    module = ConvAutoencoder(shape, width)

    def init(key: Key) -> Variables:
        found: Any = module.init(key, jnp.zeros((1, *shape)), train=False, mask=None)
        return dict(found)

    def half(name: str) -> Callable[..., Array]:
        def apply(
            variables: Variables, x: Array, *, train: bool, mask: Array | None = None
        ) -> Array:
            y: Any = module.apply(variables, x, train=train, mask=mask, method=name)
            return y

        return apply

    def loss(params: Params, stats: Any, x: Array, mask: Array) -> tuple[Array, Any]:
        variables, x = {"params": params, "batch_stats": stats}, visible(x, mask)
        y: Any
        y, moved = module.apply(
            variables, x, train=True, mask=mask, mutable=["batch_stats"]
        )
        rows = jnp.mean(jnp.square(y - x), axis=(1, 2, 3))
        return masked_mean(rows, mask), moved["batch_stats"]

    return Autoencoder(init, half("encode"), half("decode"), loss)


def pictured(variables: Variables, code: Array, shape: tuple[int, ...]) -> Array:
    """Uint8 images [n h w c] of `shape` that codes [n z] stand for, row by row."""
    pixels = shape[0] * shape[1]
    network = make_autoencoder(shape, width=code.shape[1] * SHRINK**2 // pixels)
    return to_pixels(network.decode(variables, code, train=False))


def signed(image: Array) -> Array:
    """Uint8 images as the autoencoder's, in [-1, 1]."""
    return image.astype(jnp.float32) / 127.5 - 1.0


def to_pixels(x: Array) -> Array:
    """The autoencoder's images as those of the stream are, uint8."""
    return jnp.round(127.5 * (x + 1.0)).astype(jnp.uint8)
