"""A tiny memory, a clustered stream and a drifting linear encoder for the tests."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs import default
from ocssl_jax.memory.centroids import centroids
from ocssl_jax.memory.centroids_ltm import draw

SHAPE = (2, 2, 2)
D = 5
# The config's values: of the paper, and those that the released code changes.
PAPER = default.climb().centroid_memory.to_dict()
REFERENCE = default.reference().strategy.climb.centroid_memory.to_dict()
FIDELITY = {"paper": {k: PAPER[k] for k in REFERENCE}, "reference": REFERENCE}
TINY: dict[str, Any] = PAPER | dict(
    budget=15,
    batch_size=4,
    stm=4,
    ltm=3,
    images_per_centroid=3,
    window=40,
    percentile=0.8,
)
RNG = np.random.default_rng(0)
STILL, DRIFT = RNG.normal(size=(2, 8, D)).astype(np.float32)


def weights(t):
    """The encoder at time t [8 d]; it turns as training would turn it."""
    return np.float32(STILL + 0.02 * t * DRIFT)


def encode(w, images):
    """uint8 [m h w c] -> [m d] with the encoder w [8 d]."""
    x = images.reshape(images.shape[0], -1).astype(jnp.float32) / 128 - 1
    return x @ w


def stream(n, seed=0, clusters=7):
    """[n h w c] uint8: clustered, the clusters coming and going."""
    rng = np.random.default_rng(seed)
    centre = rng.integers(0, 256, size=(clusters, *SHAPE))
    drift = (np.arange(n) * clusters / n).astype(int) + rng.integers(0, 3, size=n)
    noise = rng.normal(scale=25, size=(n, *SHAPE))
    return np.clip(centre[drift % clusters] + noise, 0, 255).astype(np.uint8)


def settings(**changes):
    return TINY | changes


class World:
    """A jitted memory with the calls the tests need."""

    def __init__(self, **changes):
        self.settings = settings(**changes)
        self.memory = centroids(**self.settings)

        def add(key, state, image, name, mask, w):
            items = {"image": image, "id": name}
            embed = lambda x: encode(w, x)
            z = embed(image)
            return self.memory.add(key, state, items, z, mask, embed=embed)

        self.raw_add = add
        self.add = jax.jit(add)
        self.sample = jax.jit(self.memory.sample, static_argnums=2)
        self.refresh = jax.jit(self.memory.refresh)
        item = {"image": jnp.zeros(SHAPE, jnp.uint8), "id": jnp.int32(0)}
        self.empty = self.memory.init(item, jnp.zeros(D))

    def draws(self, key, b):
        """The uniforms `add` uses for each of b rows."""
        keys = jax.random.split(key, b)
        m = self.settings["images_per_centroid"]
        return [jax.tree.map(np.asarray, draw(k, m)) for k in keys]

    def run(self, images, *, batch=1, state=None, key=0, start=0):
        """Every state after a batch of `images`, without refreshes."""
        state = self.empty if state is None else state
        for i in range(0, len(images), batch):
            x, now = images[i : i + batch], start + i
            names = now + np.arange(len(x), dtype=np.int32)
            k = jax.random.fold_in(jax.random.key(key), now)
            state = self.add(k, state, x, names, np.ones(len(x), bool), weights(now))
            yield state
