"""DER (Yan et al. 2021) as MEMO has it (Zhou et al. 2023): a block more for each task.

x <- stream(b), of a pool of the present task and a memory (`stream.memory`)
when a task has ended:  its last block is held, the next task has one of its own that
                        goes on from it (`backbones.grown`)
L = CE(x), by the features of all blocks side by side
    + weight * CE'(x), of a linear map of the newest block's features alone, between the
      task's new classes and one more, that stands for all old ones

There is no second loss in the first task. DER's masks, that prune a new network, are
not here, nor in MEMO. What both do last, to make the norms of old and new classes'
weights equal, is so from the start where classes are words of length 1.
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


class Growing(NamedTuple):
    """State of DER."""

    known: Array  # [k] bool, classes of earlier tasks
    met: Array  # [k] bool, these and the present one's


def der(*, tasks: int, auxiliary_weight: float) -> Strategy:
    """DER for classifiers by words on a network that grows.

    Args:
      tasks: T, of the stream.
      auxiliary_weight: of the second loss.

    Raises:
      ValueError: if there is but one task.
    """
    if tasks < 2:
        raise ValueError(f"stream.tasks must be at least 2, got {tasks}")

    def init(key: Key, learner: Learner, stream: Stream) -> tuple[Head, Growing]:
        del key
        assert stream.pool is not None
        k = len(stream.pool)
        width = jax.eval_shape(learner.encode, stream.image[:1]).e.shape[1] // tasks
        head = {"kernel": jnp.zeros((width, k + 1)), "bias": jnp.zeros(k + 1)}
        return head, Growing(jnp.zeros(k, bool), jnp.zeros(k, bool))

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
        state = Growing(known, state.met | (stream.pool > 0))
        return state, {**learner.model, "encoder": held}

    def loss(
        params: Head, state: Growing, learner: Learner, batch: Batch, out: Outputs
    ) -> dict[str, Array]:
        blocks = out.e[0].reshape(len(batch.mask), tasks, -1)
        newest = blocks[:, learner.model["encoder"]["count"]]
        rows = auxiliary(params, newest, batch, state)
        later = batch.mask & jnp.any(state.known)
        return {"auxiliary": auxiliary_weight * masked_mean(rows, later)}

    return Strategy(
        init=init,
        begin=begin,
        loss=loss,
        metrics=lambda state: {"classes_known": jnp.sum(state.known)},
    )


def auxiliary(head: Head, e: Array, batch: Batch, state: Growing) -> Array:
    """Cross entropy [n] of features [n f]: new classes, and one more for old ones."""
    logits = jnp.matmul(e, head["kernel"], precision="highest") + head["bias"][None]
    asked = jnp.append(state.met & ~state.known, True)  # the last is all old ones
    logits = jnp.where(asked[None], logits, NEVER)
    label = batch.items["label"]
    label = jnp.where(state.known[label], len(state.known), label)
    return cross_entropy(logits, label, batch.mask)
