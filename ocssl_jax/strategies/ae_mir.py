"""AE-MIR: replay of the codes whose images the stream's batch is about to spoil most.

Maximally interfered retrieval from an autoencoder's codes, of Aljundi et al., "Online
Continual Learning with Maximally Interfered Retrieval" (NeurIPS 2019), as `hybrid.py`
but for the choice of what is replayed:

x  <- stream(b);   w' <- w - rate * gradient of the mean CE(x)
z  <- encode(x);   `steps` times:  z <- z + step_size * gradient of the sum over rows of
          interference * KL(p || p') - entropy * H(p) - entropy_ahead * H(p')
C candidates <- memory, at random;   y <- decode(those nearest to the b rows of z)

p, p' are what the classifiers of the last experience and at w' make of decode(z), with
BN statistics of these images. With `retrieval='score'` nothing is searched for: y are
the R candidates c of highest CE(decode(c)) at w' less that at w.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax

from ocssl_jax.core import Batch, Key, Learner, Memory, Stream
from ocssl_jax.retrieval import virtual_step
from ocssl_jax.strategies.base import Strategy
from ocssl_jax.strategies.code_retrieval import Asked, by_score, by_search
from ocssl_jax.strategies.coding import Coding
from ocssl_jax.strategies.hybrid import Chosen, Hybrid, hybrid, past_rows

RETRIEVALS = ("nearest", "score")


def ae_mir(
    *,
    image_shape: tuple[int, ...],
    epochs: int,
    memory: str,
    memory_size: int,
    replay_size: int,
    learning_rate: float,
    autoencoder: Mapping[str, Any],
    raw_first: bool,
    strength: float,
    candidates: int,
    retrieval: str,
    steps: int,
    step_size: float,
    gain: Mapping[str, float],
    distinct: bool,
) -> Strategy:
    """MIR from codes; arguments that are not listed as `hybrid` has them.

    Args:
      image_shape: (h, w, c).
      epochs: how often each image arrives.
      memory: 'reservoir' or 'fifo'.
      memory_size: codes kept, N.
      replay_size: rows replayed in a pass, R.
      learning_rate: of the virtual step, the optimizer's.
      autoencoder: its settings.
      raw_first: the classifier sees the first experience's images as they are.
      strength: of the gradient where something is replayed.
      candidates: codes that are looked at in a pass, C.
      retrieval: 'nearest' or 'score'.
      steps: of the search.
      step_size: times the gradient.
      gain: weights `interference`, `entropy` and `entropy_ahead`.
      distinct: the found codes take the nearest candidate that is left in turns, until
        there are R; else each has its nearest one, R / b times.

    Raises:
      ValueError: if retrieval is none of these, or not R <= C <= N.
    """
    if retrieval not in RETRIEVALS:
        words = ", ".join(RETRIEVALS)
        raise ValueError(f"retrieval must be one of {words}, got {retrieval!r}")
    if not replay_size <= candidates <= memory_size:
        raise ValueError(
            f"candidates must be replay_size {replay_size} to memory_size "
            f"{memory_size}, got {candidates}"
        )
    way = partial(by_score, count=replay_size)
    if retrieval == "nearest":
        way = partial(
            by_search,
            count=replay_size,
            steps=steps,
            step_size=step_size,
            gain=gain,
            distinct=distinct,
        )

    def choose(
        key: Key,
        state: Hybrid,
        coding: Coding,
        store: Memory,
        learner: Learner,
        stream: Stream,
    ) -> Chosen:
        k_pool, k_step, k_way = jax.random.split(key, 3)
        views = learner.prepare(stream.image)[None]
        ahead = virtual_step(
            learner.method,
            learner.params,
            learner.model,
            Batch(views, stream.mask, stream.items()),
            k_step,
            rate=learning_rate,
        )
        pool = past_rows(k_pool, state, store, candidates)
        return way(k_way, Asked(state, coding, learner, ahead, stream, pool))

    return hybrid(
        image_shape=image_shape,
        epochs=epochs,
        memory=memory,
        memory_size=memory_size,
        replay_size=replay_size,
        autoencoder=autoencoder,
        raw_first=raw_first,
        strength=strength,
        choose=choose,
        remembers_classifier=retrieval == "nearest",
    )
