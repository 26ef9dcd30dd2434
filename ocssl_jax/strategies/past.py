"""Replay for classifiers, from the experiences before the present one.

x <- stream(b);   y <- R rows of the memory that are of earlier experiences
L = mean CE(x) + mean CE(y);   memory <- x, after the passes

as the code of MIR (Aljundi et al. 2019) replays. Two of its ways are keywords: the
present experience may be replayed too (`past_only=False`, then no boundary is read),
and both may be one batch under one mean (`apart=False`), which halves the step.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ocssl_jax import retrieval
from ocssl_jax.core import (
    Array,
    Augment,
    Batch,
    Items,
    Key,
    Learner,
    Memory,
    Model,
    Outputs,
    Sample,
    Stream,
)
from ocssl_jax.losses import masked_mean
from ocssl_jax.memory import plain
from ocssl_jax.memory.featureless import empty
from ocssl_jax.strategies.base import Strategy
from ocssl_jax.strategies.replay import stream_rows

MEMORIES = ("reservoir", "fifo")  # that look at no features
UNKNOWN = float(jnp.finfo(jnp.float32).max)  # lowest loss of a row not scored yet

# (key, state, learner, stream's rows, candidates, the same in the memory)
# -> which candidates are replayed [R], what is left for `update`
Choose = Callable[[Key, "Past", Learner, Batch, Batch, Sample], tuple[Array, Any]]


class Past(NamedTuple):
    """State of the strategies that know which experience a stored row is of."""

    memory: Any
    task: Array  # [] int32, the present experience; -1 before the first
    lowest: Any = ()  # losses by position, where MIR keeps them so


def may_be_drawn(state: Past, items: Items) -> Array:
    """[N] bool: the rows of earlier experiences."""
    return items["task"] != state.task


def classifying_memory(name: str, capacity: int) -> Memory:
    """A memory whose feature of a row is the lowest loss that was seen of it.

    Raises:
      ValueError: if it is none of `MEMORIES`, whose choice of rows needs no features.
    """
    if name not in MEMORIES:
        raise ValueError(f"memory must be one of {', '.join(MEMORIES)}, got {name!r}")
    return plain(name, capacity, feature_decay=0.0)


def past_replay(
    memory: Memory,
    size: int,
    *,
    candidates: int,
    choose: Choose,
    past_only: bool,
    apart: bool,
    lowest: Callable[[Learner, Stream], Any] = lambda learner, stream: (),
) -> Strategy:
    """Train on the stream's rows and `size` of the memory.

    Args:
      memory: made by `classifying_memory`.
      size: replayed rows a pass, R; fewer while fewer may be replayed.
      candidates: rows drawn at random for `choose` to choose from, at least R.
      choose: which of them are replayed.
      past_only: draw rows of earlier experiences alone.
      apart: the loss is the sum of the means over stream and replay, each of which
        passes the network by itself; else one mean, in one pass.
      lowest: makes `Past.lowest`.
    """

    def items_of(state: Past, stream: Stream) -> Items:
        return stream.items() | {"task": jnp.full(stream.mask.shape, state.task)}

    def init(key: Key, learner: Learner, stream: Stream) -> tuple[Any, Past]:
        del key
        state = Past((), jnp.int32(-1), lowest(learner, stream))
        return (), state._replace(memory=empty(memory, items_of(state, stream)))

    def begin(
        key: Key, state: Past, learner: Learner, stream: Stream
    ) -> tuple[Past, Model]:
        del key
        task = state.task + (stream.boundary if past_only else 0)
        return state._replace(task=task.astype(jnp.int32)), learner.model

    def draw(
        key: Key, state: Past, learner: Learner, stream: Stream, augment: Augment
    ) -> Batch:
        k_sample, k_stream, k_views, k_choose = jax.random.split(key, 4)
        among = partial(may_be_drawn, state) if past_only else None
        old = memory.sample(k_sample, state.memory, candidates, among=among)
        pool = Batch(augment(k_views, old.items["image"]), old.mask, old.items)
        items = items_of(state, stream)
        new = Batch(augment(k_stream, items["image"]), stream.mask, items)
        chosen, kept = choose(k_choose, state, learner, new, pool, old)
        return joined(retrieval.taken(pool, chosen), new, apart=apart, kept=kept)

    def loss(
        params: Any, state: Past, learner: Learner, batch: Batch, out: Outputs
    ) -> dict[str, Array]:
        del params, state, learner
        if not apart:
            return {}
        return {"replay": masked_mean(out.loss[:size], batch.replay_mask)}

    def end(
        key: Key, state: Past, learner: Learner, stream: Stream, out: Outputs
    ) -> tuple[Past, Model]:
        del out
        kept = memory.add(
            key,
            state.memory,
            items_of(state, stream),
            jnp.full((len(stream.mask), 1), UNKNOWN),
            stream.mask,
            embed=learner.embed,
        )
        return state._replace(memory=kept), learner.model

    return Strategy(
        init=init,
        begin=begin,
        draw=draw,
        loss=loss,
        end=end,
        metrics=lambda state: memory.metrics(state.memory),
    )


def joined(old: Batch, new: Batch, *, apart: bool, kept: Any) -> Batch:
    """Replayed rows [R], then the stream's; apart, the objective is over the latter."""
    both = lambda a, b: jnp.concatenate([a, b])
    batch = Batch(
        views=jnp.concatenate([old.views, new.views], axis=1),
        mask=both(old.mask, new.mask),
        items=jax.tree.map(both, old.items, new.items),
        replayed=len(old.mask),
        apart=apart,
        kept=kept,
    )
    return dataclasses.replace(batch, objective=stream_rows(batch)) if apart else batch
