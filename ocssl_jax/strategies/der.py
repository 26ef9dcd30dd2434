"""DER (Yan et al. 2021) as MEMO has it (Zhou et al. 2023): a block more for each task.

x <- stream(b), of a pool of the present task and a memory (`stream.memory`)
when a task has ended:  its last block is held, the next task has one of its own that
                        goes on from it (`backbones.grown`)
L = CE(x), by the features of all blocks side by side
    + weight * CE'(x), of a linear map of the newest block's features alone, between the
      task's new classes and one more, that stands for all old ones

classify linearly in the features of all blocks: fitted anew to task and memory, every
class counting the same, as in DER's second stage

There is no second loss in the first task. DER's masks, that prune a new network, are
not here, nor in MEMO. In the place of a second stage MEMO makes the norms of old and
new classes' weights equal, which those of words are from the start.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ocssl_jax.backbones.grown import grown
from ocssl_jax.core import (
    Array,
    Batch,
    Head,
    Key,
    Learner,
    Model,
    Outputs,
    Stream,
)
from ocssl_jax.losses import cross_entropy, masked_mean
from ocssl_jax.strategies.base import Strategy
from ocssl_jax.strategies.herding import NEVER
from ocssl_jax.strategies.pool import Pooled, classified_by, pool


class Growing(NamedTuple):
    """State of DER."""

    known: Array  # [k] bool, classes of earlier tasks
    met: Array  # [k] bool, these and the present one's
    pool: Pooled


def der(
    *,
    tasks: int,
    train_images: int,
    memory_size: int,
    task_size: int,
    auxiliary_weight: float,
    classifier_steps: int,
    classifier_rate: float,
) -> Strategy:
    """DER for classifiers by words on a network that grows.

    Args:
      tasks: T, of the stream.
      train_images: of the data set, N; the ids of a batch's rows are below it.
      memory_size: images of `stream.memory`, at most; kept for the classifier.
      task_size: images of a task that are; of more the newest.
      auxiliary_weight: of the second loss.
      classifier_steps: updates of the classifier, each by all of task and memory.
      classifier_rate: their learning rate.

    Raises:
      ValueError: if there is but one task.
    """
    if tasks < 2:
        raise ValueError(f"stream.tasks must be at least 2, got {tasks}")
    kept = pool(
        train_images=train_images,
        memory_size=memory_size,
        task_size=task_size,
        steps=classifier_steps,
        rate=classifier_rate,
    )

    def init(key: Key, learner: Learner, stream: Stream) -> tuple[Head, Growing]:
        del key
        assert stream.pool is not None
        k = len(stream.pool)
        width = jax.eval_shape(learner.encode, stream.image[:1]).e.shape[1] // tasks
        head = {"kernel": jnp.zeros((width, k + 1)), "bias": jnp.zeros(k + 1)}
        nobody = lambda: jnp.zeros(k, bool)
        return head, Growing(nobody(), nobody(), kept.init(stream))

    def begin(
        key: Key, state: Growing, learner: Learner, stream: Stream
    ) -> tuple[Growing, Model]:
        del key
        assert stream.pool is not None
        ended = stream.boundary & jnp.any(state.met)
        held = jax.lax.cond(
            ended,
            lambda stats: grown(learner.params["encoder"], stats),
            lambda stats: stats,
            learner.model["encoder"],
        )
        known = jnp.where(stream.boundary, state.met, state.known)
        met, turned = state.met | (stream.pool > 0), kept.turn(state.pool, stream)
        return Growing(known, met, turned), {**learner.model, "encoder": held}

    def loss(
        params: Head, state: Growing, learner: Learner, batch: Batch, out: Outputs
    ) -> dict[str, Array]:
        blocks = out.e[0].reshape(len(batch.mask), tasks, -1)
        newest = blocks[:, learner.model["encoder"]["count"]]
        rows = auxiliary(params, newest, batch, state)
        later = batch.mask & jnp.any(state.known)
        return {"auxiliary": auxiliary_weight * masked_mean(rows, later)}

    return classified_by(kept, Strategy(init=init, begin=begin, loss=loss))


def auxiliary(head: Head, e: Array, batch: Batch, state: Growing) -> Array:
    """Cross entropy [n] of features [n f]: new classes, and one more for old ones."""
    logits = jnp.matmul(e, head["kernel"], precision="highest") + head["bias"][None]
    asked = jnp.append(state.met & ~state.known, True)  # the last is all old ones
    logits = jnp.where(asked[None], logits, NEVER)
    label = batch.items["label"]
    label = jnp.where(state.known[label], len(state.known), label)
    return cross_entropy(logits, label, batch.mask)
