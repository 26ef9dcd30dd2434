"""CLIP's towers (Radford et al. 2021): a ViT for images, a causal transformer for text.

The first is `backbones.clip_vit` and a linear map without bias; the second has blocks
of the same kind, a text's features come from the token that ends it, the one of the
largest number, and another such map takes them into the space that both share.
"""

import math

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from ocssl_jax.backbones.clip_vit import EPSILON, Features, block
from ocssl_jax.backbones.linear import Linear
from ocssl_jax.backbones.vit import layer_norm, token_init
from ocssl_jax.clip.architecture import Architecture
from ocssl_jax.core import Array, Key, Params

SCALE = math.log(1 / 0.07)  # where the log of the inverse temperature starts


class ImageTower(Features):
    """Features of images in the space of both towers; attributes as `Features` has.

    Beside the encoder's parameters it has the `projection`.
    """

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Normalised images [n h w c] -> features [n f] float32, of any length."""
        a = self.architecture
        chex.assert_shape(images, (None, a.image_size, a.image_size, 3))
        x = self.features(images)
        return Linear(a.features, False, jnp.float32, name="projection")(x)


class TextTower(nn.Module):
    """Features of texts.

    Attributes:
      architecture: the sizes.
      dtype: of the computation; parameters and features are float32.
    """

    architecture: Architecture
    dtype: DTypeLike

    @nn.compact
    def __call__(self, tokens: Array) -> Array:
        """Tokens [n t] int32, t at most the context -> features [n f] float32.

        What stands behind a text's last token has no influence, so that tokens may be
        cut where the longest text of a batch ends.
        """
        a = self.architecture
        chex.assert_rank(tokens, 2)
        if tokens.shape[1] > a.context:
            raise ValueError(
                f"texts have at most {a.context} tokens here, not {tokens.shape[1]}"
            )
        shape = (a.vocabulary, a.text.width)
        x = self.param("token", token_init, shape, jnp.float32)[tokens]
        shape = (a.context, a.text.width)
        place = self.param("place", nn.initializers.normal(0.01), shape, jnp.float32)
        x = (x + place[None, : tokens.shape[1]]).astype(self.dtype)
        for i in range(a.text.layers):
            x = block(a, a.text.heads, self.dtype, causal=True, name=f"block_{i}")(x)
        end = jnp.argmax(tokens, axis=-1)
        x = jnp.take_along_axis(x, end[:, None, None], axis=1)[:, 0]
        x = layer_norm(EPSILON, jnp.float32, "norm_after")(x)
        return Linear(a.features, False, jnp.float32, name="projection")(x)


class Clip(nn.Module):
    """Both towers and the scale that CLIP was trained with.

    Attributes:
      architecture: the sizes.
      dtype: of the computation.
    """

    architecture: Architecture
    dtype: DTypeLike

    def setup(self) -> None:
        """The towers, and the logarithm of the inverse temperature."""
        self.image = ImageTower(self.architecture, self.dtype)
        self.text = TextTower(self.architecture, self.dtype)
        scale = nn.initializers.constant(SCALE)
        # GCL and group DRO have a temperature of their own: it is kept and exported.
        self.logit_scale = self.param("logit_scale", scale, (), jnp.float32)

    def encode_image(self, images: Array) -> Array:
        """Normalised images [n h w 3] -> features [n f] float32, of any length."""
        return self.image(images)

    def encode_text(self, tokens: Array) -> Array:
        """Tokens [n t] int32 -> features [n f] float32, of any length."""
        return self.text(tokens)

    def __call__(self, images: Array, tokens: Array) -> tuple[Array, Array]:
        """Features [n f] of images [n h w 3] and [m f] of tokens [m t]."""
        return self.image(images), self.text(tokens)


def random_params(key: Key, architecture: Architecture) -> Params:
    """Parameters that a CLIP may be trained from the start with.

    Maps start as PyTorch's do, embeddings as CLIP's.
    """
    module = Clip(architecture, jnp.float32)
    side = architecture.image_size
    images = jnp.zeros((1, side, side, 3), jnp.float32)
    tokens = jnp.zeros((1, architecture.context), jnp.int32)
    return jax.jit(module.init)(key, images, tokens)["params"]


def shapes_of(architecture: Architecture) -> Params:
    """The tree of `random_params` as shapes, with nothing computed."""
    init = lambda: random_params(jax.random.key(0), architecture)
    return jax.eval_shape(init)
