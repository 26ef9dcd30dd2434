"""Vision transformer (Dosovitskiy et al. 2021), in the small size of the MAE baseline.

An image is cut into square patches; a linear map makes each a token, a learned place is
added, a class token joins them, and pre-norm blocks of attention and a perceptron
follow. Nothing here looks across images, so there are no batch statistics.

The attention itself is `jax.nn.dot_product_attention`. Flax's `nn.MultiHeadAttention`
cannot be used: its one `use_bias` is for queries, keys, values and the map behind them
alike, and here only the last has a bias. `Block` serves the towers of CLIP
(`ocssl_jax.clip`) as well, which have all biases, may have another activation and, for
texts, a causal mask.
"""

from collections.abc import Callable
from functools import partial

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from ocssl_jax.backbones.linear import Linear
from ocssl_jax.backbones.norm import visible
from ocssl_jax.core import Array

HEADS = 3
DEPTH = 12
POOLS = ("cls", "mean")

# Side of a patch for images of up to so many pixels a side; larger ones: LARGE_PATCH.
PATCHES = {32: 2, 64: 4, 128: 8}
LARGE_PATCH = 16

# PyTorch's truncated normal cuts at +-2, a hundred deviations away: the normal itself.
token_init = nn.initializers.normal(0.02)

# Without `approximate=False` Flax's is the approximation by tanh.
gelu = partial(nn.gelu, approximate=False)


def patch_side(side: int) -> int:
    """Pixels a side of the patches of images with `side` pixels a side.

    Raises:
      ValueError: if the image is no whole number of patches.
    """
    patch = next((p for largest, p in PATCHES.items() if side <= largest), LARGE_PATCH)
    if side % patch:
        rules = ", ".join(
            f"up to {largest} pixels {p}" for largest, p in PATCHES.items()
        )
        raise ValueError(
            f"image_size must be a multiple of the ViT's patch ({rules}, "
            f"above {LARGE_PATCH}), got {side}, no multiple of {patch}"
        )
    return patch


def patchify(images: Array, patch: int) -> Array:
    """Images [n h w c] as rows of patches [n t p·p·c], read line by line."""
    n, h, w, c = images.shape
    x = images.reshape(n, h // patch, patch, w // patch, patch, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, -1, patch * patch * c)


def layer_norm(epsilon: float, dtype: DTypeLike, name: str | None = None) -> nn.Module:
    """Layer normalisation; the variance is the mean square distance to the mean."""
    return nn.LayerNorm(epsilon, dtype=dtype, use_fast_variance=False, name=name)


class Attention(nn.Module):
    """Multi-head self-attention.

    Attributes:
      heads: must divide the width of the tokens.
      dtype: of the computation; the softmax is float32.
      biased: whether queries, keys and values have a bias.
      causal: whether a token sees itself and those before it only.
    """

    heads: int
    dtype: DTypeLike
    biased: bool = False
    causal: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[n t w] -> [n t w]."""
        n, t, w = x.shape
        qkv = Linear(3 * w, self.biased, self.dtype, name="qkv")(x)
        q, k, v = jnp.moveaxis(qkv.reshape(n, t, 3, self.heads, w // self.heads), 2, 0)
        y = jax.nn.dot_product_attention(q, k, v, is_causal=self.causal)
        y = y.reshape(n, t, w)
        return Linear(w, True, self.dtype, name="out")(y)


class Block(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)), four times as wide inside.

    Attributes:
      heads: of the attention.
      dtype: of the computation.
      epsilon: of the norms.
      activation: inside the perceptron.
      biased: see `Attention`.
      causal: see `Attention`.
    """

    heads: int
    dtype: DTypeLike
    epsilon: float = 1e-6
    activation: Callable[[Array], Array] = gelu
    biased: bool = False
    causal: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[n t w] -> [n t w]."""
        norm = partial(layer_norm, self.epsilon, self.dtype)
        linear = partial(Linear, use_bias=True, dtype=self.dtype)
        width = x.shape[-1]
        attention = Attention(
            self.heads, self.dtype, self.biased, self.causal, name="attention"
        )
        x = x + attention(norm("norm1")(x))
        y = linear(4 * width, name="linear1")(norm("norm2")(x))
        return x + linear(width, name="linear2")(self.activation(y))


class Vit(nn.Module):
    """Transformer encoder over patches and a class token.

    Attributes:
      side: of the images, in pixels.
      width: w of the tokens and features, a multiple of `HEADS`.
      depth: blocks.
      pool: features are the class token ('cls') or the mean of all tokens ('mean').
      dtype: of the computation; parameters, normalised tokens and features are float32.
    """

    side: int
    width: int
    depth: int
    pool: str
    dtype: DTypeLike

    def setup(self) -> None:
        """Linear map of the patches, their places, class token, blocks, last norm."""
        shape = (self.patches, self.width)
        self.embed = Linear(self.width, True, self.dtype)
        self.place = self.param("place", token_init, shape, jnp.float32)
        self.cls = self.param("cls", token_init, (self.width,), jnp.float32)
        self.block = [Block(HEADS, self.dtype) for _ in range(self.depth)]
        self.norm = layer_norm(1e-5, jnp.float32)

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return patch_side(self.side)

    @property
    def patches(self) -> int:
        """t, patches of an image."""
        return (self.side // self.patch) ** 2

    def __call__(
        self, images: Array, *, train: bool, mask: Array | None = None
    ) -> Array:
        """Normalised images [n h w c] -> features [n w] float32; masked rows are 0."""
        del train
        return visible(self.pooled(self.tokens(visible(images, mask))), mask)

    def tokens(self, images: Array, kept: Array | None = None) -> Array:
        """Normalised tokens, the class token first.

        Args:
          images: [n h w c] normalised, h and w the attribute `side`.
          kept: [n k] int32, the patches of each image that are encoded, in this order;
            nothing depends on the others. None encodes all.

        Returns:
          [n 1+k w] float32.
        """
        chex.assert_shape(images, (None, self.side, self.side, None))
        x = (
            self.embed(patchify(images, self.patch))
            + self.place.astype(self.dtype)[None]
        )
        if kept is not None:
            x = jnp.take_along_axis(x, kept[:, :, None], axis=1)
        cls = jnp.broadcast_to(self.cls.astype(x.dtype), (x.shape[0], 1, self.width))
        x = jnp.concatenate([cls, x], axis=1)
        for block in self.block:
            x = block(x)
        return self.norm(x)

    def pooled(self, tokens: Array) -> Array:
        """Features [n w] of tokens [n 1+k w]."""
        return tokens[:, 0] if self.pool == "cls" else tokens.mean(axis=1)


def vit_tiny(
    *, image_size: int, width: int, depth: int, pool: str, dtype: DTypeLike
) -> Vit:
    """The ViT of three heads, 192 wide and 12 blocks deep unless asked otherwise.

    Args:
      image_size: side of the images in pixels.
      width: of the tokens, a multiple of 3.
      depth: blocks; 0 means 12.
      pool: one of `POOLS`.
      dtype: of the computation.

    Raises:
      ValueError: if the heads do not divide the width, or no patch the image.
    """
    if width % HEADS:
        raise ValueError(
            f"the width of a ViT must be a multiple of its {HEADS} heads, got {width}"
        )
    patch_side(image_size)
    return Vit(image_size, width, depth or DEPTH, pool, jnp.dtype(dtype))
