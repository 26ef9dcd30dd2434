"""Whether both sides of a comparison do the same; needs JAX and PyTorch."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import cases, learners, memories, parts, start
from benchmarks.in_torch import augment
from benchmarks.in_torch.learner import Climb
from benchmarks.in_torch.memory import Centroid, CentroidMemory, embedder, memory_of
from ocssl_jax.augment import sets
from ocssl_jax.augment.transforms import chain
from ocssl_jax.memory.centroids_state import Centroids

TOLERANCE = 1e-3
CPU = torch.device("cpu")


def tensor(x: Any) -> torch.Tensor:
    """A tensor of its own."""
    return torch.from_numpy(np.array(x))


def channels_first(images: Any) -> torch.Tensor:
    """[... h w c] -> [... c h w]."""
    return tensor(images).movedim(-1, -3)


def by_row(memory: CentroidMemory, state: Centroids) -> dict[int, Centroid]:
    """Their centroid of each row of our table, just after they were read from it."""
    used = np.flatnonzero(state.table.count)
    return dict(zip(used.tolist(), [*memory.stm, *memory.ltm], strict=True))


def losses(fields: Mapping[str, Any]) -> list[dict[str, float]]:
    """A stream batch on both sides, on the same views, from the same start.

    Later passes see what gradient, optimizer, teacher and refreshed centroids have come
    to in the earlier ones; the memories are compared at the end.

    Returns:
      Of each pass our terms of the loss, and theirs as 'torch ...'.

    Raises:
      AssertionError: if a loss differs by more than `TOLERANCE`, or the memories do.
    """
    subject = learners.subject(cases.config_of(dict(fields)))
    state, found = learners.started(subject), []
    theirs = Climb(fields, start.arrays(state), CPU)
    centroid = by_row(theirs.memory, state.strategy[0])
    m = fields["strategy"]["climb"]["centroid_memory"]["images_per_centroid"]

    def learn(batch: Any, terms: Mapping[str, Any]) -> None:
        replayed = [centroid[row] for row in (np.asarray(batch.slot) // m).tolist()]
        other = theirs.learn(channels_first(batch.views), replayed)
        ours = {name: float(value) for name, value in terms.items()}
        for name, value in ours.items():
            np.testing.assert_allclose(float(other[name]), value, atol=TOLERANCE)
        found.append(ours | {f"torch {name}": float(other[name]) for name in ours})

    stream = learners.arrivals(subject, 1)[0]
    images = channels_first(stream.image)
    passes = subject.config.passes
    seen = parts.walk(parts.cut(subject), state, stream, passes, watch=learn)
    theirs.memory.process(images, theirs.embed(images), theirs.embed)
    same_memory(seen.state.strategy[0], theirs.memory, tolerance=TOLERANCE)
    return found


def same_memory(
    ours: Centroids, theirs: CentroidMemory, *, tolerance: float, ltm: bool = True
) -> None:
    """Raise AssertionError unless both memories hold the same centroids.

    Which images a centroid holds is left to chance on both sides; how many is not.
    `ltm=False` leaves out the positions that hang on that: the LTM's, once they have
    been computed from the images.
    """
    table = jax.device_get(ours.table)
    rows, matches = len(theirs.stm), np.maximum(table.matches, 0)
    here = [(table.embedding[:rows], table.count[:rows], matches[:rows])]
    there = [theirs.stm]
    if ltm:
        used = table.stm + np.flatnonzero(table.count[table.stm :])
        order = used[np.argsort(table.embedding[used, 0])]
        here.append((table.embedding[order], table.count[order], matches[order]))
        there.append(sorted(theirs.ltm, key=lambda c: float(c.embedding[0])))
    for (embedding, count, matched), half in zip(here, there, strict=True):
        other = np.stack([c.embedding.numpy() for c in half])
        np.testing.assert_allclose(other, embedding, atol=tolerance)
        assert [len(c.images) for c in half] == count.tolist()
        own = [0 if c.promoted else c.matches for c in half]
        assert own == matched.tolist()
    np.testing.assert_allclose(theirs.threshold, ours.window.threshold, atol=tolerance)
    assert theirs.cycle == int(ours.cycle)


def memories_agree(fields: Mapping[str, Any]) -> int:
    """Stream batches into both memories until they consolidate; how many that took.

    Raises:
      AssertionError: if they differ after a stream batch.
    """
    config = cases.config_of(dict(fields))
    full = memories.full_climb(config)
    add, state = full.adding(), full.state
    theirs = memory_of(start.memory_arrays(state), fields, CPU)
    embed, cycle = embedder(config.method.projection), int(state.cycle)
    for i in range(1000):
        items, z = full.stream.batch(full.met + i)
        state = add(jax.random.key(i), state, items, z)
        theirs.process(channels_first(items["image"]), tensor(z), embed)
        going_on = int(state.cycle) == cycle
        same_memory(state, theirs, tolerance=TOLERANCE, ltm=going_on)
        if not going_on:
            return i + 1
    raise AssertionError("the memories never consolidated")


def augmentations(images: int = 64, size: int = 32) -> float:
    """Largest difference of a pixel when both sides augment with the same draws."""
    transform = chain(sets.simclr(size))
    keys = jax.random.split(jax.random.key(0), images)
    raw = jax.random.uniform(jax.random.key(1), (images, size, size, 3))
    drawn = jax.vmap(lambda key: transform.draw(key, (size, size, 3)))(keys)
    ours = jax.vmap(transform.apply)(raw, drawn)
    box, (flip, _), (jittered, jitter), (gray, _) = jax.tree.map(tensor, drawn)
    theirs = augment.apply(
        channels_first(raw),
        augment.Drawn(
            augment.Box(*(side.float() for side in box)),
            flip=flip,
            jitter=jittered,
            brightness=jitter.brightness,
            contrast=jitter.contrast,
            saturation=jitter.saturation,
            hue=jitter.hue,
            order=jitter.order.long(),
            gray=gray,
        ),
    )
    gap = float(jnp.max(jnp.abs(theirs.movedim(1, -1).numpy() - ours)))
    assert gap < TOLERANCE, gap
    return gap
