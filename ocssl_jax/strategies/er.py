"""Experience replay (ER): join each stream batch with rows of a plain memory.

x <- replay(R) + stream(b);   L = L_ssl(x);   memory <- stream, after the passes
"""

from ocssl_jax.strategies.base import Strategy
from ocssl_jax.strategies.replay import plain_replay


def er(
    *, memory: str, memory_size: int, replay_size: int, feature_decay: float
) -> Strategy:
    """ER on a reservoir (default) or another plain memory.

    Args:
      memory: 'reservoir', 'fifo' or another plain memory.
      memory_size: images kept, N.
      replay_size: replayed rows a pass, R; replay starts once more than R are held.
      feature_decay: of the features kept beside the images, which ER does not use.
    """
    return plain_replay(memory, memory_size, replay_size, feature_decay=feature_decay)
