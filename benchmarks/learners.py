"""Learners to measure: the functions of a config, and states with full memories."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks import memories
from benchmarks.memories import SHAPE
from ocssl_jax.augment import make_augment
from ocssl_jax.compiling import once
from ocssl_jax.core import Augment, Stream, TrainState
from ocssl_jax.learning import Learning, make_learning, optimizer_of
from ocssl_jax.optim import Optimizer

MEAN, STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)  # CIFAR-100's


class Subject(NamedTuple):
    """A learner, and of its parts those that `Learning` keeps to itself."""

    config: ConfigDict
    learning: Learning
    augment: Augment
    optimizer: Optimizer


def subject(
    config: ConfigDict,
    *,
    shape: tuple[int, ...] = SHAPE,
    mean: tuple[float, ...] = MEAN,
    std: tuple[float, ...] = STD,
    **dataset: Any,
) -> Subject:
    """The learner of a resolved config, as `learning.make_learning` makes it.

    `dataset` is what else that asks of the data set.
    """
    learning = make_learning(config, shape=shape, mean=mean, std=std, **dataset)
    augment = make_augment(
        config.augment.name,
        image_size=shape[0],
        channels=shape[2],
        mean=mean,
        std=std,
        views=learning.method.views,
        per=config.augment.per,
    )
    return Subject(config, learning, augment, optimizer_of(config))


def arrivals(found: Subject, count: int) -> list[Stream]:
    """Stream batches of noise."""
    rng, rows = np.random.default_rng(1), found.config.stream.batch_size
    return [
        Stream(
            image=jnp.asarray(memories.noise(rng, rows)),
            id=jnp.zeros(rows, jnp.int32),
            mask=jnp.ones(rows, bool),
            boundary=jnp.bool(False),
        )
        for _ in range(count)
    ]


def started(found: Subject) -> TrainState:
    """A fresh learner with a full memory; the same one whenever asked."""
    state = once(found.learning.init)(jax.random.key(0), arrivals(found, 1)[0])
    rng = np.random.default_rng(0)
    strategy = jax.tree.map(
        lambda part: memories.filled(found.config, part, rng),
        state.strategy,
        is_leaf=memories.is_memory,
    )
    return dataclasses.replace(state, strategy=strategy)
