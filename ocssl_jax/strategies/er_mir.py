"""ER-MIR: replay what the stream's batch is about to spoil most.

Maximally interfered retrieval, of Aljundi et al., "Online Continual Learning with
Maximally Interfered Retrieval" (NeurIPS 2019):

x  <- stream(b);   C candidates <- memory, at random
w' <- w - rate * gradient of the mean loss of x          a step that is never taken
y  <- the R candidates of highest score
        MI-1  l(w') - l(w)
        MI-2  l(w') - min(l(w), the lowest loss seen of the candidate)
L = mean CE(x) + mean CE(y), both at w;   memory <- x, after the passes

Both losses of a candidate are with BN statistics of the C candidates, whose running
ones stay. The lowest losses are those of scored candidates before an update.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp

from ocssl_jax import retrieval
from ocssl_jax.core import Array, Batch, Key, Learner, Outputs, Sample
from ocssl_jax.strategies.base import Strategy
from ocssl_jax.strategies.lowest import by_position, by_row
from ocssl_jax.strategies.past import Past, classifying_memory, past_replay

SCORES = ("mi1", "mi2")


class Scored(NamedTuple):
    """The candidates of a pass."""

    slot: Array  # [C] int32
    lowest: Array  # [C] float32, loss, now or at any time before
    mask: Array  # [C] bool
    view: Array  # [C h w c] float32


def er_mir(
    *,
    memory: str,
    memory_size: int,
    replay_size: int,
    learning_rate: float,
    candidates: int,
    score: str,
    past_only: bool,
    apart: bool,
    lowest_by_position: bool,
    scoring_moves_statistics: bool,
) -> Strategy:
    """MIR on a reservoir (default) or a FIFO.

    Args:
      memory: 'reservoir' or 'fifo'.
      memory_size: images kept, N.
      replay_size: replayed rows a pass, R.
      learning_rate: of the virtual step, the optimizer's peak.
      candidates: rows that are scored in a pass, C, at least R.
      score: 'mi1' or 'mi2'.
      past_only: candidates are of earlier experiences alone.
      apart: as in ER.
      lowest_by_position: keep the lowest losses as the released code does.
      scoring_moves_statistics: the candidates move BN's running statistics, after the
        stream's rows, as in the released code; with `apart` alone.

    Raises:
      ValueError: if memory or score is not one of these, or not R <= C <= N.
    """
    if score not in SCORES:
        raise ValueError(f"score must be one of {', '.join(SCORES)}, got {score!r}")
    if replay_size > memory_size:
        raise ValueError(
            f"replay_size must be at most memory_size {memory_size}, got {replay_size}"
        )
    if not replay_size <= candidates <= memory_size:
        raise ValueError(
            f"candidates must be replay_size {replay_size} to memory_size "
            f"{memory_size}, got {candidates}"
        )
    store = classifying_memory(memory, memory_size)
    kept = (
        by_position(store, memory_size, past_only=past_only)
        if lowest_by_position
        else by_row(store)
    )

    def choose(
        key: Key, state: Past, learner: Learner, new: Batch, pool: Batch, old: Sample
    ) -> tuple[Array, Any]:
        method, params, model = learner.method, learner.params, learner.model
        ahead = retrieval.virtual_step(
            method, params, model, new, key, rate=learning_rate
        )
        now, then = (
            retrieval.unit_losses(method, w, model, pool, key, part=1, train=True)
            for w in (params, ahead)
        )
        lowest = jnp.minimum(now, kept.read(state, old))
        scores, _ = retrieval.rise(now if score == "mi1" else lowest, then, pool.mask)
        left = Scored(old.slot, lowest, old.mask, pool.views[0])
        return retrieval.highest(scores, replay_size), left

    def draw(*seen: Any) -> Batch:
        batch = replaying.draw(*seen)
        if not scoring_moves_statistics:
            return batch
        seen_by_norms = (batch.kept.view, batch.kept.mask)
        return dataclasses.replace(batch, bystanders=seen_by_norms)

    def update(state: Past, learner: Learner, batch: Batch, out: Outputs) -> Past:
        del learner, out
        scored = batch.kept
        return kept.write(state, scored.slot, scored.lowest, scored.mask)

    replaying = past_replay(
        store,
        replay_size,
        candidates=candidates,
        choose=choose,
        past_only=past_only,
        apart=apart,
        lowest=kept.init,
    )
    return replaying._replace(draw=draw, update=update)
