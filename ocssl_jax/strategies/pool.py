"""The images of the present task and its memory, kept for a classifier that comes last.

Rows of `stream.memory` arrive among the task's own. They are known by their numbers,
which have arrived in a task before, and kept apart, so that a task of more images than
are kept does not displace them. Of several epochs an image is kept once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ocssl_jax.core import Array, Head, Key, Learner, Model, Outputs, Stream
from ocssl_jax.memory.featureless import empty, keep
from ocssl_jax.memory.fifo import fifo
from ocssl_jax.strategies.base import Strategy
from ocssl_jax.strategies.classifier import balanced_classifier

CHUNK = 100  # images encoded at once for the classifier


class Pooled(NamedTuple):
    """What has arrived."""

    before: Array  # [N] bool, images that arrived in an earlier task
    here: Array  # [N] bool, that arrived in the present one
    new: Any  # a memory of those of these that are of this task alone
    old: Any  # and of the others


class Pool(NamedTuple):
    """How a pool is kept, as pure functions."""

    init: Callable[[Stream], Pooled]
    turn: Callable[[Pooled, Stream], Pooled]  # as a stream batch begins
    add: Callable[[Key, Pooled, Stream], Pooled]  # as it ends
    head: Callable[[Pooled, Learner], Head]  # fitted anew, which changes nothing
    metrics: Callable[[Pooled], dict[str, Array]]


def pool(
    *, train_images: int, memory_size: int, task_size: int, steps: int, rate: float
) -> Pool:
    """The pool of at most `memory_size` old and `task_size` new images.

    Args:
      train_images: of the data set, N; the ids of a batch's rows are below it.
      memory_size: images of earlier tasks, at most.
      task_size: images of a task; of more the newest.
      steps: updates of the classifier, each by all of the pool.
      rate: their learning rate.
    """
    stores = [fifo(size, feature_decay=0.0) for size in (task_size, memory_size)]

    def nothing(stream: Stream) -> dict[str, Any]:
        new, old = (empty(store, stream.items()) for store in stores)
        return {"new": new, "old": old}

    def init(stream: Stream) -> Pooled:
        nobody = lambda: jnp.zeros(train_images, bool)
        return Pooled(nobody(), nobody(), **nothing(stream))

    def turn(state: Pooled, stream: Stream) -> Pooled:
        def turned(state: Pooled) -> Pooled:
            here, before = jnp.zeros_like(state.here), state.before | state.here
            return Pooled(before, here, **nothing(stream))

        return jax.lax.cond(stream.boundary, turned, lambda s: s, state)

    def add(key: Key, state: Pooled, stream: Stream) -> Pooled:
        known, fresh = state.before[stream.id], stream.mask & ~state.here[stream.id]
        new, old = (
            keep(key, store, held, stream.items(), fresh & own)
            for store, held, own in zip(
                stores, (state.new, state.old), (~known, known), strict=True
            )
        )
        real = jnp.where(stream.mask, stream.id, train_images)
        here = state.here.at[real].set(True, mode="drop")
        return state._replace(new=new, old=old, here=here)

    def head(state: Pooled, learner: Learner) -> Head:
        held = stores[0].rows(state.new), stores[1].rows(state.old)
        items, real = jax.tree.map(lambda *rows: jnp.concatenate(rows), *held)
        one = lambda image: learner.encode(image[None]).e[0]
        own: Any = learner.method.head
        return balanced_classifier(
            jax.lax.map(one, items["image"], batch_size=CHUNK),
            items["label"],
            real,
            classes=len(jax.eval_shape(own, learner.params)["bias"]),
            steps=steps,
            rate=rate,
        )

    def metrics(state: Pooled) -> dict[str, Array]:
        sizes = stores[0].size(state.new), stores[1].size(state.old)
        return dict(zip(("task_images", "memory_images"), sizes, strict=True))

    return Pool(init, turn, add, head, metrics)


def classified_by(kept: Pool, strategy: Strategy) -> Strategy:
    """`strategy`, whose state has a `pool`, with what arrives kept there and judged."""

    def end(
        key: Key, state: Any, learner: Learner, stream: Stream, out: Outputs
    ) -> tuple[Any, Model]:
        del out
        arrived = kept.add(key, state.pool, stream)
        return state._replace(pool=arrived), learner.model

    return strategy._replace(
        end=end,
        metrics=lambda state: kept.metrics(state.pool),
        head=lambda state, learner: kept.head(state.pool, learner),
    )
