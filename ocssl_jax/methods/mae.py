"""MAE (He et al. 2022): hide most patches of an image, paint them from the others.

order <- a random permutation of the patches, one for each image
tokens = encoder(the first k patches)                 never sees the hidden ones
x'     = decoder(tokens, a learned token in each hidden place)
L      = mean over pixels of hidden * (x' - x)^2 / mask_ratio

The pixels are the normalised ones, not standardised patch by patch. Features are those
of the whole image wherever an image is only encoded, hence for probes and teachers; the
features that a training pass hands on are those of what it has seen. There is no
projector: projections are features.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from ocssl_jax.backbones.linear import Linear
from ocssl_jax.backbones.norm import visible
from ocssl_jax.backbones.vit import Block, Vit, patchify, token_init
from ocssl_jax.core import Array, Batch, Key, Method, Model, Outputs, Params
from ocssl_jax.heads import Identity
from ocssl_jax.methods.network import architecture, network


def shuffled(key: Key, rows: int, patches: int) -> Array:
    """A random order [n t] int32 of the patches for each of `rows` images."""
    order = jnp.broadcast_to(jnp.arange(patches), (rows, patches))
    return jax.random.permutation(key, order, axis=1, independent=True)


def put_back(kept: Array, filler: Array, order: Array) -> Array:
    """Tokens in the order of the image, the hidden ones filled.

    Args:
      kept: [n k w] tokens of the patches order[:, :k].
      filler: [w], stands where nothing was kept.
      order: [n t], a permutation of the patches for each image.

    Returns:
      [n t w].
    """
    n, k, width = kept.shape
    hidden = jnp.broadcast_to(filler, (n, order.shape[1] - k, width))
    place = jnp.argsort(order, axis=1)[:, :, None]
    return jnp.take_along_axis(jnp.concatenate([kept, hidden], axis=1), place, axis=1)


def pixel_loss(painted: Array, target: Array, hidden: Array) -> Array:
    """Squared error [n] over the hidden patches, as a mean over all pixels.

    Args:
      painted: [n t p] float32, the decoder's pixels.
      target: [n t p] float32, the image's.
      hidden: [n t] bool.
    """
    chex.assert_equal_shape([painted, target])
    error = jnp.where(hidden[:, :, None], jnp.square(painted - target), 0.0)
    return jnp.mean(error, axis=(1, 2))


class Decoder(nn.Module):
    """Blocks over all places of the image, without a norm at the end.

    Attributes:
      pixels: p, values of a patch.
      layers: blocks.
      heads: of the blocks, must divide the width of the tokens.
      dtype: of the computation; parameters and pixels are float32.
    """

    pixels: int
    layers: int
    heads: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, tokens: Array, order: Array) -> Array:
        """Tokens [n 1+k w] of patches order[:, :k], order [n t] -> pixels [n t p]."""
        width, patches = tokens.shape[-1], order.shape[1]
        filler = self.param("mask_token", token_init, (width,), jnp.float32)
        place = self.param("place", token_init, (1 + patches, width), jnp.float32)
        x = put_back(tokens[:, 1:], filler, order)
        x = jnp.concatenate([tokens[:, :1], x], axis=1) + place[None]
        x = x.astype(self.dtype)
        for i in range(self.layers):
            x = Block(self.heads, self.dtype, name=f"block_{i}")(x)
        x = Linear(self.pixels, True, self.dtype, name="pixels")(x[:, 1:])
        return x.astype(jnp.float32)


def fitting(backbone: nn.Module, mask_ratio: float, heads: int) -> tuple[Vit, int]:
    """The ViT of `backbone`, and k, how many of its patches are kept.

    Raises:
      ValueError: if the backbone is no ViT, no patch is kept, or the heads do not fit.
    """
    vit = architecture(backbone)
    if not isinstance(vit, Vit):
        raise ValueError(
            f"needs a ViT, --config.backbone.name=vit_tiny, got {type(vit).__name__}"
        )
    kept = int(vit.patches * (1 - mask_ratio))
    if not 1 <= kept < vit.patches:
        raise ValueError(
            f"mask_ratio must leave some of the {vit.patches} patches and hide some, "
            f"got {mask_ratio}, which leaves {kept}"
        )
    if vit.width % heads:
        raise ValueError(
            f"decoder_heads must divide the ViT's width {vit.width}, got {heads}"
        )
    return vit, kept


def mae(
    backbone: nn.Module,
    *,
    dtype: DTypeLike,
    mask_ratio: float,
    decoder_layers: int,
    decoder_heads: int,
) -> Method:
    """MAE on `backbone`, a ViT; one view.

    Args:
      backbone: images [n h w c] to features [n w].
      dtype: of the decoder's computation.
      mask_ratio: of the t patches, int(t (1 - mask_ratio)) are kept.
      decoder_layers: blocks of the decoder, as wide as the encoder.
      decoder_heads: of these blocks, must divide the width.

    Raises:
      ValueError: as `fitting`.
    """
    vit, kept = fitting(backbone, mask_ratio, decoder_heads)
    start, forward = network(backbone, Identity())

    def decoder(images: Array) -> Decoder:
        pixels = vit.patch**2 * images.shape[-1]
        return Decoder(pixels, decoder_layers, decoder_heads, dtype)

    def init(key: Key, image: Array) -> tuple[Params, Model]:
        k_network, k_decoder = jax.random.split(key)
        params, model = start(k_network, image)
        tokens, order = jnp.zeros((1, 1 + kept, vit.width)), jnp.arange(vit.patches)
        variables = decoder(image).init(k_decoder, tokens, order[None])
        return params | {"decoder": variables["params"]}, model

    def loss(
        params: Params, model: Model, batch: Batch, key: Key, *, train: bool = True
    ) -> Outputs:
        del train  # nothing here knows batch statistics
        chex.assert_axis_dimension(batch.views, 0, 1)
        images = visible(batch.views[0], batch.mask)
        order = shuffled(key, images.shape[0], vit.patches)
        weights = {part: {"params": params[part]} for part in ("encoder", "decoder")}
        tokens: Any = vit.apply(
            weights["encoder"], images, order[:, :kept], method="tokens"
        )
        painted: Any = decoder(images).apply(weights["decoder"], tokens, order)
        hidden = jnp.argsort(order, axis=1) >= kept
        rows = pixel_loss(painted, patchify(images, vit.patch), hidden) / mask_ratio
        e = visible(vit.pooled(tokens), batch.mask)[None]
        return Outputs(visible(rows, batch.mask), e, e, model)

    return Method(init, forward, loss, views=1)
