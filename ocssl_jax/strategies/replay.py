"""Replay: train on the stream's rows together with rows drawn from a memory.

Every pass draws afresh and puts the replayed rows first. Stream rows enter the memory
after the passes. Until the memory holds `start` rows the replayed half is masked, so
that warm-up and replay are the same compiled step.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ocssl_jax.core import (
    Array,
    Augment,
    Batch,
    Key,
    Learner,
    Memory,
    Model,
    Outputs,
    Stream,
)
from ocssl_jax.strategies.base import Strategy

# (learner, stream, out) -> feature [b d] stored with each new row, model
Admit = Callable[[Learner, Stream, Outputs], tuple[Array, Model]]


def last_pass(learner: Learner, stream: Stream, out: Outputs) -> tuple[Array, Model]:
    """Store the mean over views of the stream rows' projections in the last pass."""
    rows = stream.mask.shape[0]
    return out.z[:, -rows:].mean(axis=0), learner.model


def embedding(*, train: bool) -> Admit:
    """Store the projection of the raw image under the weights after the passes.

    Args:
      train: BN uses (and moves) its batch statistics, as CLIMB's released code does;
        otherwise the running ones.
    """

    def admit(learner: Learner, stream: Stream, out: Outputs) -> tuple[Array, Model]:
        del out
        x = learner.prepare(stream.image)
        seen = learner.method.forward(
            learner.params, learner.model, x, train=train, mask=stream.mask
        )
        return seen.z, seen.model

    return admit


def replay(memory: Memory, size: int, *, start: int, admit: Admit) -> Strategy:
    """Join each pass's stream rows with `size` rows of `memory`.

    Args:
      memory: where the rows live; its state is this strategy's state.
      size: replayed rows a pass (the papers' replay batch size).
      start: rows the memory must hold before replay begins.
      admit: what is stored beside each new row.
    """

    def init(key: Key, learner: Learner, stream: Stream) -> tuple[Any, Any]:
        del key
        item = jax.tree.map(lambda rows: rows[0], stream.items())
        z = jax.eval_shape(learner.embed, stream.image[:1])
        return (), memory.init(item, jnp.zeros(z.shape[1:], z.dtype))

    def draw(
        key: Key, state: Any, learner: Learner, stream: Stream, augment: Augment
    ) -> Batch:
        del learner
        k_sample, k_augment = jax.random.split(key)
        old = memory.sample(k_sample, state, size)
        ready = memory.size(state) >= start
        items = jax.tree.map(
            lambda a, b: jnp.concatenate([a, b]), old.items, stream.items()
        )
        return Batch(
            views=augment(k_augment, items["image"]),
            mask=jnp.concatenate([old.mask & ready, stream.mask]),
            items=items,
            slot=old.slot,
            stored=old.feature,
            replayed=size,
        )

    def update(state: Any, learner: Learner, batch: Batch, out: Outputs) -> Any:
        del learner
        feature = out.z[:, : batch.replayed].mean(axis=0)
        return memory.refresh(state, batch.slot, feature, batch.replay_mask)

    def end(
        key: Key, state: Any, learner: Learner, stream: Stream, out: Outputs
    ) -> tuple[Any, Model]:
        feature, model = admit(learner, stream, out)
        embed = dataclasses.replace(learner, model=model).embed
        state = memory.add(
            key, state, stream.items(), feature, stream.mask, embed=embed
        )
        return state, model

    return Strategy(
        init=init, draw=draw, update=update, end=end, metrics=memory.metrics
    )


def with_objective(part: Strategy, rows: Callable[[Batch], Array]) -> Strategy:
    """`part`, the method's own loss being over the rows `rows(batch)` [n] bool only."""

    def draw(*seen: Any) -> Batch:
        batch = part.draw(*seen)
        return dataclasses.replace(batch, objective=rows(batch))

    return part._replace(draw=draw)


def stream_rows(batch: Batch) -> Array:
    """[n] bool: True for the rows of the stream, which follow the replayed ones."""
    return jnp.arange(len(batch.mask)) >= batch.replayed
