"""Co2L (Cha et al. 2021): contrast with what is old, keep relations, classify last.

x <- stream(b), of a pool of the present task and a memory (`stream.memory`)
L = SupCon over x, of which rows of the present task alone are anchors
    + weight * mean over rows, both views, of CE(softmax R' / T', softmax R / T)
when a task has ended:  the past learner <- the present one
classify linearly in frozen features; fitted to the pool, every class counting the same

R are a row's cosines with all others, R' those that the past learner gives; there is no
such loss in the first task. Which rows are old is known by their number: the memory's
have arrived in a task before. A classifier is fitted whenever one is asked for, which
changes nothing; the paper draws its batches evenly of each class, here the loss has
the weights that make the same mean, so that nothing is drawn.
"""

import dataclasses
from typing import Any, NamedTuple

import jax

from ocssl_jax.core import (
    Array,
    Augment,
    Batch,
    Key,
    Learner,
    Model,
    Outputs,
    Stream,
)
from ocssl_jax.strategies.base import Strategy, stream_only
from ocssl_jax.strategies.pool import Pooled, classified_by, pool
from ocssl_jax.strategies.scale_losses import distillation
from ocssl_jax.strategies.spaces import space_of
from ocssl_jax.strategies.teachers import frozen


class Relating(NamedTuple):
    """State of Co2L."""

    teacher: Any  # the past learner
    pool: Pooled


def co2l(
    *,
    train_images: int,
    memory_size: int,
    task_size: int,
    distill_weight: float,
    temperature: float,
    past_temperature: float,
    classifier_steps: int,
    classifier_rate: float,
) -> Strategy:
    """Co2L for methods whose loss is a supervised contrast of two views.

    Args:
      train_images: of the data set, N; the ids of a batch's rows are below it.
      memory_size: images of `stream.memory`, at most; kept for the classifier.
      task_size: images of a task that are; of more the newest.
      distill_weight: of the distillation of relations.
      temperature: T, of present relations.
      past_temperature: T', of past ones.
      classifier_steps: updates of the classifier, each by all of the pool.
      classifier_rate: their learning rate.

    Raises:
      ValueError: if a temperature is not positive.
    """
    if min(temperature, past_temperature) <= 0:
        raise ValueError(
            f"temperature and past_temperature must be above 0, got {temperature} and "
            f"{past_temperature}"
        )
    teacher, space = frozen(skip_first=True), space_of("projection")
    kept = pool(
        train_images=train_images,
        memory_size=memory_size,
        task_size=task_size,
        steps=classifier_steps,
        rate=classifier_rate,
    )

    def init(key: Key, learner: Learner, stream: Stream) -> tuple[Any, Relating]:
        del key
        return (), Relating(teacher.init(learner), kept.init(stream))

    def begin(
        key: Key, state: Relating, learner: Learner, stream: Stream
    ) -> tuple[Relating, Model]:
        del key
        past = teacher.begin(state.teacher, learner, stream.boundary)
        return Relating(past, kept.turn(state.pool, stream)), learner.model

    def draw(
        key: Key, state: Relating, learner: Learner, stream: Stream, augment: Augment
    ) -> Batch:
        batch = stream_only(key, state, learner, stream, augment)
        return dataclasses.replace(batch, objective=~state.pool.before[stream.id])

    def loss(
        params: Any, state: Relating, learner: Learner, batch: Batch, out: Outputs
    ) -> dict[str, Array]:
        del params
        then, mask = teacher.project(state.teacher, learner, batch, space)
        term = distillation(
            out.z.reshape(then.shape),
            jax.lax.stop_gradient(then),
            mask,
            temperature=temperature,
            past_temperature=past_temperature,
        )
        return {"distill": distill_weight * term}

    return classified_by(kept, Strategy(init=init, begin=begin, draw=draw, loss=loss))
