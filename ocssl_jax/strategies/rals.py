"""RALS: of memory and stream, train on what the learner does worse on than at first.

Reducible anchor loss selection, of Mokhtarzadeh Azar and Timofte, "Speeding Up Online
Self-Supervised Learning by Exploiting Its Limitations", section 4.2:

before the passes:  anchor <- learner
each pass:          y <- augmented replay(R) + stream(b), the pool
                    score <- L(y) - L_anchor(y) of each row or part, without gradient
                    x <- the k highest;   L = L_ssl(x)
after the passes:   stream rows enter the memory

In the first pass learner and anchor are one, every score is 0 and the choice random. A
random choice in every pass (`choice='random'`) and the whole pool (`er` with as many
rows) tell what the selection is worth apart from the larger pool.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ocssl_jax import retrieval
from ocssl_jax.core import (
    Augment,
    Batch,
    Key,
    Learner,
    Model,
    Outputs,
    Params,
    Stream,
)
from ocssl_jax.memory import plain
from ocssl_jax.strategies.base import Strategy
from ocssl_jax.strategies.replay import embedding, replay, stream_rows

CHOICES = ("rise", "random")


class Anchored(NamedTuple):
    """The state between `begin` and `end`; outside it is the memory's alone."""

    memory: Any
    params: Params  # of the method, when the stream batch arrived
    model: Model


def chosen_units(pool: int, selected: int, part: int) -> int:
    """Units of `part` rows to train on; `selected` 0 stands for two thirds of the pool.

    Raises:
      ValueError: if `selected` rows are no whole units, or more than the pool has.
    """
    if selected % part or not 0 <= selected <= pool:
        whole = "" if part == 1 else f"a multiple of {part} and "
        raise ValueError(
            f"selected must be {whole}at most {pool}, the rows of stream and replay "
            f"together, got {selected}"
        )
    return selected // part or max(1, 2 * (pool // part) // 3)


def rals(
    *,
    batch_size: int,
    memory: str,
    memory_size: int,
    replay_size: int,
    feature_decay: float,
    selected: int,
    choice: str,
    part_size: int,
    pure_parts: bool,
    batch_statistics: bool,
) -> Strategy:
    """RALS on a reservoir (default) or another plain memory.

    Args:
      batch_size: b, rows of a stream batch.
      memory: 'reservoir', 'fifo' or another plain memory.
      memory_size: images kept, N.
      replay_size: rows of the memory in the pool of a pass, R; they join it once more
        than R are held.
      feature_decay: of the features kept beside the images, which RALS does not use.
      selected: rows of the pool that are trained on, k; 0: two thirds, as the paper's
        256 of 384.
      choice: 'rise', those whose loss has risen most over the anchor's; 'random',
        which scores nothing.
      part_size: rows that are judged together where the method has one loss for a
        whole batch, N_p; they are chosen or left as one.
      pure_parts: parts hold rows of the memory or of the stream, not of both; b and R
        must then be multiples of `part_size`.
      batch_statistics: judge with BN statistics of the pool, not the running ones.

    Raises:
      ValueError: if the choice is none of these, or by `draw` if the rows make no
        whole parts.
    """
    if choice not in CHOICES:
        raise ValueError(f"choice must be one of {', '.join(CHOICES)}, got {choice!r}")
    kept = plain(memory, memory_size, feature_decay=feature_decay)
    pool = replay(
        kept, replay_size, start=replay_size + 1, admit=embedding(train=False)
    )

    def begin(
        key: Key, state: Any, learner: Learner, stream: Stream
    ) -> tuple[Anchored, Model]:
        del key, stream
        return Anchored(state, learner.params, learner.model), learner.model

    def draw(
        key: Key, state: Anchored, learner: Learner, stream: Stream, augment: Augment
    ) -> Batch:
        k_pool, k_units, k_score = jax.random.split(key, 3)
        part = part_size if learner.method.whole else 1
        batch = pool.draw(k_pool, state.memory, learner, stream, augment)
        order = retrieval.units(
            k_units, (replay_size, batch_size), part=part, pure=pure_parts
        )
        shuffled = retrieval.taken(batch, order.reshape(-1))
        real = jnp.any(shuffled.mask.reshape(-1, part), axis=1)
        if choice == "random":
            scores, lost = jnp.where(real, 0.0, -jnp.inf), jnp.zeros(())
        else:
            before, after = (
                retrieval.unit_losses(
                    learner.method,
                    weights.params,
                    weights.model,
                    shuffled,
                    k_score,
                    part=part,
                    train=batch_statistics,
                )
                # Not vmapped: convolutions would become grouped ones.
                for weights in (state, learner)
            )
            scores, lost = retrieval.rise(before, after, real)
        count = chosen_units(replay_size + batch_size, selected, part)
        rows = retrieval.rows_of(retrieval.highest(scores, count), part)
        found = retrieval.taken(shuffled, rows)
        fresh = (stream_rows(batch) & batch.mask)[order.reshape(-1)[rows]]
        share = jnp.sum(fresh) / jnp.maximum(jnp.sum(found.mask), 1)
        return dataclasses.replace(
            found, told={"stream_ratio": share, "unscored": lost}
        )

    def end(
        key: Key, state: Anchored, learner: Learner, stream: Stream, out: Outputs
    ) -> tuple[Any, Model]:
        return pool.end(key, state.memory, learner, stream, out)

    return Strategy(
        init=pool.init, begin=begin, draw=draw, end=end, metrics=pool.metrics
    )
