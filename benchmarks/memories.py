"""Memories to measure: full ones, and the streams that fill them.

A stream drifts: its images scatter around some centres, of which a new one takes the
place of the eldest again and again, about as often as CLIMB fills a centroid. The
embedding of an image is its own first pixels: an encoder that costs next to nothing, so
that a memory's own part is measured, and that finds the same again when it is asked
again.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ocssl_jax.core import Array, Embed, Items, Key, Memory
from ocssl_jax.memory.base import Ranked
from ocssl_jax.memory.centroids import centroids
from ocssl_jax.memory.centroids_state import Centroids

SHAPE = (32, 32, 3)
CENTRES, NOISE = 300, 0.7  # of a stream: how many, and how far images lie from them
GRAY, CONTRAST = 127.5, 40.0  # pixels are GRAY + CONTRAST times a standard normal
FULL = (0.75, 0.9)  # share of the budget that a filled memory of centroids holds

Batch = tuple[Items, Array]  # rows and their features [b d]
Add = Callable[[Key, Any, Items, Array], Any]  # jitted; consumes the state


def noise(rng: np.random.Generator, *lead: int) -> np.ndarray:
    """uint8 images [*lead h w c]."""
    return rng.integers(0, 256, (*lead, *SHAPE), np.uint8)


def embedder(width: int) -> Embed:
    """An encoder for the price of a copy: the first `width` values of each image."""

    def embed(images: Array) -> Array:
        flat = images.reshape(len(images), -1)[:, :width]
        return (flat.astype(jnp.float32) - GRAY) / CONTRAST

    return embed


class Stream(NamedTuple):
    """Batches without end, each a function of its number."""

    centre: np.ndarray  # [k h w c] float32
    rows: int  # b
    width: int  # d of the embeddings
    active: int  # centres that a batch draws from
    images: int  # that come from one centre, about

    def batch(self, i: int) -> Batch:
        """The `i`-th batch."""
        rng = np.random.default_rng(i)
        eldest = i * self.rows // self.images
        which = (eldest + rng.integers(0, self.active, self.rows)) % len(self.centre)
        near = self.centre[which]
        pixels = GRAY + CONTRAST * (near + NOISE * rng.normal(size=near.shape))
        image = jnp.asarray(pixels.clip(0, 255).astype(np.uint8))
        items = {"image": image, "id": jnp.arange(self.rows, dtype=jnp.int32)}
        return items, embedder(self.width)(image)


def stream_for(config: ConfigDict, width: int) -> Stream:
    """A stream that keeps the config's CLIMB busy: new, promoted, merged centroids."""
    fields = config.strategy.climb.centroid_memory
    centre = np.random.default_rng(0).normal(size=(CENTRES, *SHAPE)).astype(np.float32)
    active, images = max(fields.stm // 3, 1), fields.images_per_centroid
    return Stream(centre, config.stream.batch_size, width, active, images)


class Full(NamedTuple):
    """A full memory, and what arrives next."""

    memory: Memory
    state: Any
    stream: Stream
    met: int  # batches so far: the stream's next one is of that number

    @property
    def embed(self) -> Embed:
        """The encoder of the stream."""
        return embedder(self.stream.width)

    def adding(self) -> Add:
        """Its `add` of whole batches, jitted."""
        memory, embed, mask = self.memory, self.embed, jnp.ones(self.stream.rows, bool)

        def add(key: Key, state: Any, items: Items, z: Array) -> Any:
            return memory.add(key, state, items, z, mask, embed=embed)

        return jax.jit(add, donate_argnums=1)


def climb_memory(config: ConfigDict) -> Memory:
    """The memory of the config's CLIMB, which its strategy keeps to itself."""
    s = config.strategy
    fields = s.climb.centroid_memory.to_dict()
    batch_size = config.stream.batch_size
    return centroids(budget=s.memory_size, batch_size=batch_size, **fields)


def first_state(memory: Memory, batch: Batch) -> Any:
    """An empty memory for rows like those of `batch`."""
    items, z = jax.tree.map(lambda x: x[0], batch)
    return memory.init(items, z)


def full_climb(config: ConfigDict, state: Centroids | None = None) -> Full:
    """CLIMB's memory after a stream long enough to fill it, from `state` or empty.

    The LTM is full, and STM and LTM hold a share of the budget within `FULL`: it is a
    while until the next consolidation.
    """
    s, memory = config.strategy, climb_memory(config)
    width = state.table.embedding.shape[1] if state else config.method.projection
    stream = stream_for(config, width)
    state = copied(state) if state else first_state(memory, stream.batch(0))
    full = Full(memory, state, stream, 0)
    add = full.adding()
    for i in range(5000):
        count = np.asarray(state.table.count)
        share = count.sum() / s.memory_size
        ltm = (count[state.table.stm :] > 0).sum()
        if ltm == s.climb.centroid_memory.ltm and FULL[0] <= share <= FULL[1]:
            return full._replace(state=state, met=i)
        state = add(jax.random.key(i), state, *stream.batch(i))
    raise RuntimeError("a memory of centroids never fills up at these sizes")


def fill_ranked(state: Ranked, rng: np.random.Generator) -> Ranked:
    """A memory that has seen as many images as it holds."""
    image = jnp.asarray(noise(rng, len(state.rank)))
    feature = jnp.asarray(rng.normal(size=state.feature.shape), jnp.float32)
    rank = -jnp.arange(len(state.rank), dtype=state.rank.dtype)
    items = {**state.items, "image": image}
    return dataclasses.replace(state, items=items, feature=feature, rank=rank)


def filled(config: ConfigDict, part: Any, rng: np.random.Generator) -> Any:
    """`part` with what it has seen so far; what is no memory stays."""
    if isinstance(part, Centroids):
        return full_climb(config, part).state
    return fill_ranked(part, rng) if isinstance(part, Ranked) else part


def is_memory(part: Any) -> bool:
    """Whether `filled` does something to it."""
    return isinstance(part, Centroids | Ranked)


def batches_between(full: Full) -> int:
    """Stream batches from one consolidation of CLIMB's memory to the next."""
    add, state, met = full.adding(), copied(full.state), []
    for i in range(full.met, full.met + 5000):
        cycle = int(state.cycle)
        state = add(jax.random.key(i), state, *full.stream.batch(i))
        if int(state.cycle) > cycle:
            met.append(i)
        if len(met) == 2:
            return met[1] - met[0]
    raise RuntimeError("this stream never fills the memory twice")


def copied(state: Any) -> Any:
    """A state of its own, for a program that consumes what it is given."""
    return jax.tree.map(lambda x: x.copy(), state)
