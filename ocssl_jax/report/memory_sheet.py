"""From a strategy's state to the sheet of what its memory holds."""

from collections import Counter
from functools import singledispatch
from typing import Any

import numpy as np

from ocssl_jax.autoencoder import pictured
from ocssl_jax.data import Dataset
from ocssl_jax.memory.base import Ranked
from ocssl_jax.memory.centroids_state import Centroids
from ocssl_jax.memory.centroids_state import sheet as cards
from ocssl_jax.report.sheet import Group, Sheet, count, flat_sheet, occupancy
from ocssl_jax.strategies.herding import NOT_CHOSEN
from ocssl_jax.strategies.hybrid import Hybrid
from ocssl_jax.strategies.icarl import Exemplars


@singledispatch
def sheet_of(state: Any, dataset: Dataset, capacity: int) -> Sheet | None:
    """The sheet of the first memory found in `state`, None if there is none.

    `capacity` is the number of images that the memory may hold. Labels only put a flat
    memory's images in order for the reader; they come from the data set, since no
    memory has them.
    """
    if isinstance(state, tuple):
        found = (sheet_of(part, dataset, capacity) for part in state)
        return next((sheet for sheet in found if sheet is not None), None)
    return None


@sheet_of.register
def _(state: Ranked, dataset: Dataset, capacity: int) -> Sheet:
    return _flat(state, np.asarray(state.items["image"]), dataset, capacity)


@sheet_of.register
def _(state: Hybrid, dataset: Dataset, capacity: int) -> Sheet:
    """Of what the codes stand for."""
    kept, shape = state.memory, dataset.train_image.shape[1:]
    images = pictured(state.coder.settled, kept.items["code"], shape)
    return _flat(kept, np.asarray(images), dataset, capacity)


def _flat(state: Ranked, images: Any, dataset: Dataset, capacity: int) -> Sheet:
    """`images` [N ...] of all slots, those that hold something."""
    rank = np.asarray(state.rank)
    limits = np.iinfo if np.issubdtype(rank.dtype, np.integer) else np.finfo
    held = rank > limits(rank.dtype).min  # an empty slot has this rank or -inf
    labels = dataset.train_label[np.asarray(state.items["id"])[held]]
    return flat_sheet(
        images[held], name="memory", capacity=capacity, order=labels, by="class"
    )


@sheet_of.register
def _(state: Exemplars, dataset: Dataset, capacity: int) -> Sheet:
    held = np.asarray(state.place) < NOT_CHOSEN
    images = np.asarray(state.items["image"])[held]
    labels = np.asarray(state.items["label"])[held]
    return flat_sheet(
        images, name="exemplars", capacity=capacity, order=labels, by="class"
    )


@sheet_of.register
def _(state: Centroids, dataset: Dataset, capacity: int) -> Sheet:
    del dataset
    groups, places = [], Counter[str]()
    for centroid in cards(state):
        half, images = centroid.half.upper(), centroid.items["image"]
        places[half] += 1
        title = f"{half} {places[half]} · {count(len(images), 'image')}"
        groups.append(Group(title, images, half))
    held = occupancy(sum(len(g.images) for g in groups), capacity)
    caption = f"CLIMB: {held} in {count(len(groups), 'centroid')}"
    return Sheet(caption, groups, "centroid")
