"""CLIP's ViT (Radford et al. 2021): an image's features before the map to the texts'.

The pre-norm blocks of `vit` with biases everywhere, a norm before the first block, and
the class token's features. The text tower (`clip.towers`) is made of the same blocks.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from ocssl_jax.backbones.linear import Linear
from ocssl_jax.backbones.norm import visible
from ocssl_jax.backbones.vit import Block, gelu, layer_norm, patchify
from ocssl_jax.clip.architecture import Architecture
from ocssl_jax.core import Array

EPSILON = 1e-5  # of every norm; PyTorch's, ten times Flax's
CHANNELS = 3


def quick_gelu(x: Array) -> Array:
    """X sigmoid(1.702 x), the sigmoid approximation of GELU (Hendrycks & Gimpel)."""
    return x * jax.nn.sigmoid(1.702 * x)


ACTIVATION: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "quick_gelu": quick_gelu,
}


def block(
    architecture: Architecture,
    heads: int,
    dtype: DTypeLike,
    *,
    causal: bool,
    name: str,
) -> Block:
    """A block of one of CLIP's towers."""
    return Block(
        heads,
        dtype,
        epsilon=EPSILON,
        activation=ACTIVATION[architecture.activation],
        biased=True,
        causal=causal,
        name=name,
    )


class Features(nn.Module):
    """What the image tower and the encoder have in common.

    Attributes:
      architecture: the sizes.
      dtype: of the computation; parameters and features are float32.
    """

    architecture: Architecture
    dtype: DTypeLike

    def features(self, images: Array) -> Array:
        """Of normalised images [n h w 3] of the architecture's side, [n f] float32."""
        a = self.architecture
        width = a.image.width
        spread = nn.initializers.normal(width**-0.5)
        x = Linear(width, False, self.dtype, name="embed")(patchify(images, a.patch))
        cls = self.param("cls", spread, (width,), jnp.float32).astype(x.dtype)
        cls = jnp.broadcast_to(cls, (x.shape[0], 1, width))
        x = jnp.concatenate([cls, x], axis=1)
        place = self.param("place", spread, (x.shape[1], width), jnp.float32)
        x = layer_norm(EPSILON, self.dtype, "norm_before")(
            x + place.astype(x.dtype)[None]
        )
        for i in range(a.image.layers):
            x = block(a, a.image.heads, self.dtype, causal=False, name=f"block_{i}")(x)
        return layer_norm(EPSILON, jnp.float32, "norm_after")(x[:, 0])


class ImageEncoder(Features):
    """Features of images, as wide as the tower.

    Images of another side than the architecture's are resized by a bicubic filter, grey
    ones seen as three equal channels.
    """

    @nn.compact
    def __call__(
        self, images: Array, *, train: bool, mask: Array | None = None
    ) -> Array:
        """Normalised images [n h w c] -> features [n f] float32; masked rows are 0."""
        del train
        side = self.architecture.image_size
        shape = (len(images), side, side, images.shape[-1])
        x = visible(images, mask)
        if x.shape != shape:
            x = jax.image.resize(x, shape, "cubic")
        x = jnp.broadcast_to(x, (*shape[:3], CHANNELS))
        return visible(self.features(x), mask)
