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

from typing import Any

import jax.numpy as jnp

from ocssl_jax import retrieval
from ocssl_jax.core import Array, Batch, Key, Learner, Outputs, Sample
from ocssl_jax.strategies.base import Strategy
from ocssl_jax.strategies.past import Past, classifying_memory, past_replay

SCORES = ("mi1", "mi2")


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
) -> Strategy:
    """MIR on a reservoir (default) or a FIFO.

    Args:
      memory: 'reservoir' or 'fifo'.
      memory_size: images kept, N.
      replay_size: replayed rows a pass, R.
      learning_rate: of the virtual step, the optimizer's.
      candidates: rows that are scored in a pass, C, at least R.
      score: 'mi1' or 'mi2'.
      past_only: candidates are of earlier experiences alone.
      apart: as in ER.

    Raises:
      ValueError: if memory or score is not one of these, or not R <= C <= N.
    """
    if score not in SCORES:
        raise ValueError(f"score must be one of {', '.join(SCORES)}, got {score!r}")
    if not replay_size <= candidates <= memory_size:
        raise ValueError(
            f"candidates must be replay_size {replay_size} to memory_size "
            f"{memory_size}, got {candidates}"
        )
    store = classifying_memory(memory, memory_size)

    def choose(
        key: Key, learner: Learner, new: Batch, pool: Batch, old: Sample
    ) -> tuple[Array, Any]:
        method, params, model = learner.method, learner.params, learner.model
        ahead = retrieval.virtual_step(
            method, params, model, new, key, rate=learning_rate
        )
        now, then = (
            retrieval.unit_losses(method, w, model, pool, key, part=1, train=True)
            for w in (params, ahead)
        )
        lowest = jnp.minimum(now, old.feature[:, 0])
        scores, _ = retrieval.rise(now if score == "mi1" else lowest, then, pool.mask)
        return retrieval.highest(scores, replay_size), (old.slot, lowest, old.mask)

    def update(state: Past, learner: Learner, batch: Batch, out: Outputs) -> Past:
        del learner, out
        slot, lowest, real = batch.kept
        kept = store.refresh(state.memory, slot, lowest[:, None], real)
        return state._replace(memory=kept)

    return past_replay(
        store,
        replay_size,
        candidates=candidates,
        choose=choose,
        past_only=past_only,
        apart=apart,
    )._replace(update=update)
