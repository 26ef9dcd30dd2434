"""A variational autoencoder of images with pixels in [0, 1] (Kingma & Welling 2014).

m, v <- encoder(x)     mean and variance of a normal distribution of latents
z    <- m + sqrt(v) e,   e ~ N(0, 1)
L    =  -log p(x | z)  +  beta (log q(z | x) - log p(z)),   p(z) = N(0, 1)

with pixels as Bernoulli variables that need not be 0 or 1, and the divergence estimated
from the one z, as the code of MIR (Aljundi et al. 2019) has it.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from ocssl_jax.backbones.linear import Linear
from ocssl_jax.backbones.norm import visible
from ocssl_jax.core import Array, Key, Params
from ocssl_jax.losses import masked_mean

PIXEL_MARGIN = 1e-6  # the mean of a pixel keeps that far from 0 and 1
LEAST_VARIANCE = 1e-6  # a softplus may round to 0, of which there is no logarithm


class Elbo(NamedTuple):
    """Parts of the loss, means over rows."""

    reconstruction: Array  # [] float32, nats an image
    divergence: Array  # [] float32, nats an image


class Generator(NamedTuple):
    """Pure functions of one autoencoder."""

    init: Callable[[Key], Params]
    decode: Callable[[Params, Array], Array]  # latents [n z] -> means [n h w c]
    # (params, key, x [n h w c], mask [n], *, train) -> Elbo; dropout when training
    losses: Callable[..., Elbo]


class Vae(nn.Module):
    """Perceptrons of `depth` hidden ReLU layers each way.

    Attributes:
      shape: of an image, (h, w, c).
      hidden: units of a hidden layer.
      latent: dimensions z.
      depth: hidden layers, at least 1.
      dropout: share of hidden units that are left out in training.
    """

    shape: tuple[int, ...]
    hidden: int
    latent: int
    depth: int
    dropout: float

    def setup(self) -> None:
        """The layers, started as PyTorch's are."""
        linear = lambda units: Linear(units, True, jnp.float32)
        self.inward = [linear(self.hidden) for _ in range(self.depth)]
        self.outward = [linear(self.hidden) for _ in range(self.depth)]
        self.mean, self.variance = linear(self.latent), linear(self.latent)
        self.pixels = linear(math.prod(self.shape))
        self.drop = nn.Dropout(self.dropout)

    def encode(self, x: Array, *, train: bool) -> tuple[Array, Array]:
        """Images [n h w c] -> mean and variance of their latents, [n z] each."""
        h = x.reshape(len(x), -1)
        for layer in self.inward:
            h = self.drop(nn.relu(layer(h)), deterministic=not train)
        variance = jnp.maximum(nn.softplus(self.variance(h)), LEAST_VARIANCE)
        return self.mean(h), variance

    def decode(self, z: Array, *, train: bool) -> Array:
        """Latents [n z] -> means of pixels [n h w c], in (0, 1)."""
        for layer in self.outward:
            z = self.drop(nn.relu(layer(z)), deterministic=not train)
        means: Array = nn.sigmoid(self.pixels(z)).reshape(-1, *self.shape)
        return means

    def __call__(self, x: Array, *, train: bool) -> tuple[Array, Array]:
        """Images [n h w c] -> reconstruction loss and divergence of each, [n] each."""
        mean, variance = self.encode(x, train=train)
        noise = jax.random.normal(self.make_rng("noise"), mean.shape)
        z = mean + jnp.sqrt(variance) * noise
        return bernoulli(x, self.decode(z, train=train)), divergence(z, mean, variance)


def bernoulli(x: Array, mean: Array) -> Array:
    """-log p [n] of pixels [n h w c] in [0, 1] given their means, summed."""
    p = jnp.clip(mean, PIXEL_MARGIN, 1 - PIXEL_MARGIN)
    return -jnp.sum(x * jnp.log(p) + (1 - x) * jnp.log1p(-p), axis=(1, 2, 3))


def divergence(z: Array, mean: Array, variance: Array) -> Array:
    """Log q(z) - log p(z) [n] of latents [n z] drawn from q, p standard normal."""
    q = jnp.log(variance) + jnp.square(z - mean) / variance
    return 0.5 * jnp.sum(jnp.square(z) - q, axis=1)


def make_vae(
    shape: tuple[int, ...], *, hidden: int, latent: int, depth: int, dropout: float
) -> Generator:
    """The functions of a `Vae`; see there."""
    module = Vae(shape, hidden, latent, depth, dropout)

    def init(key: Key) -> Params:
        keys = {"params": key, "noise": key}
        return module.init(keys, jnp.zeros((1, *shape)), train=False)["params"]

    def decode(params: Params, z: Array) -> Array:
        found: Any = module.apply({"params": params}, z, train=False, method="decode")
        return found

    def losses(
        params: Params, key: Key, x: Array, mask: Array, *, train: bool = True
    ) -> Elbo:
        names = ("dropout", "noise")
        rngs = dict(zip(names, jax.random.split(key), strict=True))
        parts: Any = module.apply(
            {"params": params}, visible(x, mask), train=train, rngs=rngs
        )
        return Elbo(*(masked_mean(part, mask) for part in parts))

    return Generator(init, decode, losses)


def elbo(parts: Elbo, beta: Array | float) -> Array:
    """The loss []."""
    return parts.reconstruction + beta * parts.divergence
