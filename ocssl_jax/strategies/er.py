"""Experience replay (ER): join each stream batch with rows of a plain memory.

x <- replay(R) + stream(b);   L = L_ssl(x);   memory <- stream, after the passes

Classifiers may replay earlier experiences alone, and apart: see `past`.
"""

import jax.numpy as jnp

from ocssl_jax.strategies.base import Strategy
from ocssl_jax.strategies.past import classifying_memory, past_replay
from ocssl_jax.strategies.replay import plain_replay


def er(
    *,
    memory: str,
    memory_size: int,
    replay_size: int,
    feature_decay: float,
    past_only: bool,
    apart: bool,
) -> Strategy:
    """ER on a reservoir (default) or another plain memory.

    Args:
      memory: 'reservoir', 'fifo' or another plain memory.
      memory_size: images kept, N.
      replay_size: replayed rows a pass, R; replay starts once more than R are held.
      feature_decay: of the features kept beside the images, which ER does not use.
      past_only: replay rows of earlier experiences alone, from the first that is held.
      apart: stream and replay have a forward pass and a mean loss each, which are
        added. This and `past_only` are for supervised methods.

    Raises:
      ValueError: if the memory is not one of those that can be used.
    """
    if not (past_only or apart):
        return plain_replay(
            memory, memory_size, replay_size, feature_decay=feature_decay
        )
    return past_replay(
        classifying_memory(memory, memory_size),
        replay_size,
        candidates=replay_size,
        choose=lambda *seen: (jnp.arange(replay_size), ()),
        past_only=past_only,
        apart=apart,
    )
