"""CLIMB's memory as the paper tells it: two lists of centroids that hold their images.

Each image of a stream batch is compared with every centroid, and what follows happens
in plain Python. On an accelerator the host waits for each distance.
"""

import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Embed = Callable[[Tensor], Tensor]  # uint8 [m c h w] -> [m d]
TWINS = 1e-6  # a promoted centroid and its anchor are as near as each other
CHUNK = 128  # images encoded at a time


@dataclass(eq=False)
class Centroid:
    """A place in the embedding space and the images that lie there."""

    embedding: Tensor  # [d]
    images: list[Tensor]  # [c h w] uint8 each
    matches: int = 1
    age: int = 0  # stream images since its last match
    promoted: bool = False


@dataclass
class CentroidMemory:
    """STM, LTM and the threshold between known and novel.

    `settings` are the fields of config.strategy.climb.centroid_memory; those that
    choose among rules are taken at their defaults.
    """

    settings: Mapping[str, Any]
    budget: int
    stm: list[Centroid] = field(default_factory=list)
    ltm: list[Centroid] = field(default_factory=list)
    distances: deque[float] = field(default_factory=deque)
    threshold: float = float("inf")
    cycle: int = 0  # consolidations so far

    @property
    def size(self) -> int:
        """Images held."""
        return sum(len(c.images) for c in [*self.stm, *self.ltm])

    def copy(self) -> "CentroidMemory":
        """A memory of its own that shares the tensors, which nothing writes to."""
        own = lambda half: [replace(c, images=list(c.images)) for c in half]
        distances = self.distances.copy()
        return replace(self, stm=own(self.stm), ltm=own(self.ltm), distances=distances)

    def process(self, images: Tensor, z: Tensor, embed: Embed) -> None:
        """A stream batch, images [b c h w] with embeddings [b d], one by one."""
        for image, row in zip(images, z, strict=True):
            self.observe(image, row)
        if self.size >= self.budget:
            self.consolidate(embed)

    def observe(self, image: Tensor, z: Tensor) -> None:
        """One stream image."""
        s = self.settings
        near, distance = self.nearest(z)
        filling = len(self.stm) < s["stm"]
        touched = None
        if filling or distance > self.threshold:
            touched = Centroid(z, [image])
            if filling:
                self.stm.append(touched)
            else:
                ages = [c.age for c in self.stm]
                self.stm[ages.index(max(ages))] = touched
        elif near in self.ltm:
            self.join_ltm(near, image)
        elif not near.promoted:
            touched = near
            near.embedding = (1 - s["alpha"]) * near.embedding + s["alpha"] * z
            near.matches += 1
            near.age = 0
            if len(near.images) < s["images_per_centroid"]:
                near.images.append(image)
        for c in self.stm:
            c.age += 1
        self.push(distance)
        if touched and touched.matches >= s["images_per_centroid"]:
            self.promote(touched)
        if len(self.ltm) > s["ltm"]:
            self.merge()

    def nearest(self, z: Tensor) -> tuple[Any, float]:
        """The centroid of the smallest cosine distance; None and inf if none."""
        best, least = None, float("inf")
        for half in (self.stm, self.ltm):
            if half:
                places = torch.stack([c.embedding for c in half])
                near = functional.cosine_similarity(places, z[None], dim=1)
                value, i = near.max(dim=0)
                distance = 1 - value.item()
                if distance < least - TWINS:
                    best, least = half[int(i)], distance
        return best, least

    def join_ltm(self, centroid: Centroid, image: Tensor) -> None:
        """An LTM centroid is matched; a full one takes every other image."""
        centroid.matches += 1
        m = self.settings["images_per_centroid"]
        if len(centroid.images) < m:
            centroid.images.append(image)
        elif random.random() < 0.5:
            centroid.images[random.randrange(m)] = image

    def push(self, distance: float) -> None:
        """Move the window and the threshold."""
        if distance == float("inf"):
            return
        self.distances.append(distance)
        if len(self.distances) > self.settings["window"]:
            self.distances.popleft()
        window = torch.tensor(list(self.distances))
        self.threshold = window.quantile(self.settings["percentile"]).item()

    def promote(self, centroid: Centroid) -> None:
        """Copy an STM centroid to the LTM and leave an anchor with one image."""
        self.ltm.append(Centroid(centroid.embedding, list(centroid.images), matches=0))
        del centroid.images[1:]
        centroid.promoted = True

    def merge(self) -> None:
        """The two most similar LTM centroids become one."""
        u = functional.normalize(torch.stack([c.embedding for c in self.ltm]), dim=1)
        similarity = torch.triu(u @ u.T + 2.0, diagonal=1)  # 0 where not above
        i, j = divmod(int(similarity.argmax()), len(u))
        a, b = self.ltm[i], self.ltm.pop(j)
        a.embedding = (a.embedding + b.embedding) / 2
        a.matches += b.matches
        pool, m = a.images + b.images, self.settings["images_per_centroid"]
        a.images = random.sample(pool, m) if len(pool) > m else pool

    def consolidate(self, embed: Embed) -> None:
        """Every position anew, by the current encoder; the STM keeps one image each."""
        held = [*self.ltm, *self.stm]
        images = torch.stack([image for c in held for image in c.images])
        z = torch.cat([embed(part) for part in images.split(CHUNK)])
        rows = z.split([len(c.images) for c in held])
        for c, own in zip(held, rows, strict=True):
            c.embedding = own.mean(dim=0)
        for c in self.stm:
            del c.images[1:]
            c.matches, c.promoted = 0, False
        self.cycle += 1

    def sample(self, n: int) -> tuple[Tensor, list[Centroid]]:
        """`n` images [n c h w] without replacement, and the centroid of each."""
        long, short = (
            [(c, image) for c in half for image in c.images]
            for half in (self.ltm, self.stm)
        )
        wanted = max(int(self.settings["ratio_ltm"] * n), n - len(short))
        n_long = min(wanted, len(long))
        drawn = random.sample(long, n_long)
        drawn += random.sample(short, min(n - n_long, len(short)))
        return torch.stack([image for _, image in drawn]), [c for c, _ in drawn]

    def refresh(self, centroids: list[Centroid], z: Tensor) -> None:
        """Move the centroid of each replayed image towards its projection [n d]."""
        for c, row in zip(centroids, z, strict=True):
            rate = self.settings["refresh_rate"] / len(c.images)
            c.embedding = (1 - rate) * c.embedding + rate * row


def memory_of(
    start: Mapping[str, np.ndarray], config: Mapping[str, Any], device: torch.device
) -> CentroidMemory:
    """The memory that `benchmarks.start` wrote down as `memory/...`.

    Args:
      start: the arrays; images are [n h w c].
      config: of the run, as JSON holds it.
      device: where images and centroids live.
    """
    arrays = {name.removeprefix("memory/"): array for name, array in start.items()}
    settings = config["strategy"]["climb"]["centroid_memory"]
    memory = CentroidMemory(settings, config["strategy"]["memory_size"])
    store = torch.tensor(arrays["image"].transpose(0, 3, 1, 2), device=device)
    embedding = torch.tensor(arrays["embedding"], device=device)
    for row in np.flatnonzero(arrays["count"]):
        held = arrays["place"][row, : arrays["count"][row]]
        matches = int(arrays["matches"][row])
        centroid = Centroid(
            embedding[row].clone(),
            [store[int(place)].clone() for place in held],
            matches=max(matches, 0),
            promoted=matches < 0,
        )
        if row < settings["stm"]:
            centroid.age = int(arrays["age"][row])
            memory.stm.append(centroid)
        else:
            memory.ltm.append(centroid)
    memory.distances.extend(map(float, arrays["distances"]))
    memory.threshold = float(arrays["threshold"])
    memory.cycle = int(arrays["cycle"])
    return memory


def embedder(width: int) -> Embed:
    """The encoder of benchmarks.memories: the first `width` values of each image."""

    def embed(images: Tensor) -> Tensor:
        flat = images.permute(0, 2, 3, 1).flatten(1)[:, :width]
        return (flat.float() - 127.5) / 40.0

    return embed
