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
import jax.numpy as jnp

from ocssl_jax.core import (
    Array,
    Augment,
    Batch,
    Head,
    Key,
    Learner,
    Model,
    Outputs,
    Stream,
)
from ocssl_jax.memory.fifo import fifo
from ocssl_jax.strategies.base import Strategy, stream_only
from ocssl_jax.strategies.classifier import balanced_classifier
from ocssl_jax.strategies.scale_losses import distillation
from ocssl_jax.strategies.spaces import space_of
from ocssl_jax.strategies.teachers import frozen

CHUNK = 100  # images encoded at once for the classifier


class Relating(NamedTuple):
    """State of Co2L."""

    teacher: Any  # the past learner
    before: Array  # [N] bool, images that arrived in an earlier task
    here: Array  # [N] bool, that arrived in the present one
    new: Any  # a memory of those of these that are of this task alone
    old: Any  # and of the others


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
    stores = [fifo(size, feature_decay=0.0) for size in (task_size, memory_size)]
    teacher, space = frozen(skip_first=True), space_of("projection")

    def empty(stream: Stream) -> dict[str, Any]:
        item = jax.tree.map(lambda rows: rows[0], stream.items())
        new, old = (store.init(item, jnp.zeros((1,))) for store in stores)
        return {"new": new, "old": old}

    def init(key: Key, learner: Learner, stream: Stream) -> tuple[Any, Relating]:
        del key
        nobody = lambda: jnp.zeros(train_images, bool)
        past = teacher.init(learner)
        return (), Relating(past, nobody(), nobody(), **empty(stream))

    def begin(
        key: Key, state: Relating, learner: Learner, stream: Stream
    ) -> tuple[Relating, Model]:
        del key
        past = teacher.begin(state.teacher, learner, stream.boundary)

        def turned(state: Relating) -> Relating:
            here, before = jnp.zeros_like(state.here), state.before | state.here
            return state._replace(before=before, here=here, **empty(stream))

        state = jax.lax.cond(stream.boundary, turned, lambda s: s, state)
        return state._replace(teacher=past), learner.model

    def draw(
        key: Key, state: Relating, learner: Learner, stream: Stream, augment: Augment
    ) -> Batch:
        batch = stream_only(key, state, learner, stream, augment)
        return dataclasses.replace(batch, objective=~state.before[stream.id])

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

    def end(
        key: Key, state: Relating, learner: Learner, stream: Stream, out: Outputs
    ) -> tuple[Relating, Model]:
        del out
        known, fresh = state.before[stream.id], stream.mask & ~state.here[stream.id]
        new, old = (
            store.add(
                key,
                kept,
                stream.items(),
                jnp.zeros((len(known), 1)),
                fresh & own,  # of several epochs the first
                embed=learner.embed,
            )
            for store, kept, own in zip(
                stores, (state.new, state.old), (~known, known), strict=True
            )
        )
        real = jnp.where(stream.mask, stream.id, train_images)
        here = state.here.at[real].set(True, mode="drop")
        return state._replace(new=new, old=old, here=here), learner.model

    def head(state: Relating, learner: Learner) -> Head:
        held = stores[0].rows(state.new), stores[1].rows(state.old)
        items, real = jax.tree.map(lambda *rows: jnp.concatenate(rows), *held)
        one = lambda image: learner.encode(image[None]).e[0]
        own: Any = learner.method.head
        return balanced_classifier(
            jax.lax.map(one, items["image"], batch_size=CHUNK),
            items["label"],
            real,
            classes=len(jax.eval_shape(own, learner.params)["bias"]),
            steps=classifier_steps,
            rate=classifier_rate,
        )

    return Strategy(
        init=init,
        begin=begin,
        draw=draw,
        loss=loss,
        end=end,
        metrics=lambda state: {
            "task_images": stores[0].size(state.new),
            "memory_images": stores[1].size(state.old),
        },
        head=head,
    )
