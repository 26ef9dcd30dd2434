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
    Features,
    Key,
    Learner,
    Memory,
    Model,
    Outputs,
    Stream,
)
from ocssl_jax.memory import plain
from ocssl_jax.strategies.base import Strategy
from ocssl_jax.strategies.spaces import Space, projection

# (learner, stream, out) -> what is known of each new row [b ...], and the model
Admit = Callable[[Learner, Stream, Outputs], Features]


def last_pass(learner: Learner, stream: Stream, out: Outputs) -> Features:
    """What the last pass made of the stream's rows, averaged over views."""
    rows = stream.mask.shape[0]
    e, z = (x[:, -rows:].mean(axis=0) for x in (out.e, out.z))
    return Features(e, z, learner.model)


def embedding(*, train: bool) -> Admit:
    """What the weights after the passes make of the raw images.

    Args:
      train: BN uses (and moves) its batch statistics, as CLIMB's released code does;
        otherwise the running ones.
    """

    def admit(learner: Learner, stream: Stream, out: Outputs) -> Features:
        del out
        x = learner.prepare(stream.image)
        return learner.method.forward(
            learner.params, learner.model, x, train=train, mask=stream.mask
        )

    return admit


def replay(
    memory: Memory,
    size: int,
    *,
    start: int,
    admit: Admit,
    space: Space = projection,
) -> Strategy:
    """Join each pass's stream rows with `size` rows of `memory`.

    Args:
      memory: where the rows live; its state is this strategy's state.
      size: replayed rows a pass (the papers' replay batch size).
      start: rows the memory must hold before replay begins.
      admit: encodes the new rows for the memory.
      space: what of a row is stored beside its image, and refreshed in each pass.
    """

    def init(key: Key, learner: Learner, stream: Stream) -> tuple[Any, Any]:
        del key
        item = jax.tree.map(lambda rows: rows[0], stream.items())
        row = space(jax.eval_shape(learner.encode, stream.image[:1]))
        return (), memory.init(item, jnp.zeros(row.shape[1:], row.dtype))

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
        feature = space(out)[:, : batch.replayed].mean(axis=0)
        return memory.refresh(state, batch.slot, feature, batch.replay_mask)

    def end(
        key: Key, state: Any, learner: Learner, stream: Stream, out: Outputs
    ) -> tuple[Any, Model]:
        new = admit(learner, stream, out)
        after = dataclasses.replace(learner, model=new.model)
        state = memory.add(
            key,
            state,
            stream.items(),
            space(new),
            stream.mask,
            embed=lambda images: space(after.encode(images)),
        )
        return state, new.model

    return Strategy(
        init=init, draw=draw, update=update, end=end, metrics=memory.metrics
    )


def plain_replay(
    memory: str,
    capacity: int,
    size: int,
    *,
    feature_decay: float,
    space: Space = projection,
) -> Strategy:
    """Replay of `size` rows, once more than that are held, from the memory so named.

    What the last pass made of a row enters the memory with it.

    Raises:
      ValueError: if there is no plain memory of that name.
    """
    kept = plain(memory, capacity, feature_decay=feature_decay)
    return replay(kept, size, start=size + 1, admit=last_pass, space=space)


def with_objective(part: Strategy, rows: Callable[[Batch], Array]) -> Strategy:
    """`part`, the method's own loss being over the rows `rows(batch)` [n] bool only."""

    def draw(*seen: Any) -> Batch:
        batch = part.draw(*seen)
        return dataclasses.replace(batch, objective=rows(batch))

    return part._replace(draw=draw)


def stream_rows(batch: Batch) -> Array:
    """[n] bool: True for the rows of the stream, which follow the replayed ones."""
    return jnp.arange(len(batch.mask)) >= batch.replayed
