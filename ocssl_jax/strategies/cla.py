"""CLA (continual latent alignment): replay, aligned to a slower copy of the learner.

x <- replay(R) + stream(b)
L = L_ssl(x) + omega * mean over replayed rows of -cos(a(z), z_teacher)
CLA-E: the teacher is the learner's exponential moving average.
"""

from ocssl_jax.memory import MEMORIES
from ocssl_jax.strategies.align import PARTS, align, ema
from ocssl_jax.strategies.base import Strategy, chain
from ocssl_jax.strategies.replay import last_pass, replay


def cla_e(
    *,
    memory: str,
    memory_size: int,
    replay_size: int,
    feature_decay: float,
    align_weight: float,
    align_hidden: int,
    ema_decay: float,
) -> Strategy:
    """CLA-E: FIFO replay and alignment to the EMA of encoder and projector.

    Args:
      memory: 'fifo' (the papers' choice) or 'reservoir'.
      memory_size: images kept, N.
      replay_size: replayed rows a pass, R; replay starts once more than R are held.
      feature_decay: of the features kept beside the images, which CLA-E does not use.
      align_weight: omega.
      align_hidden: width of the alignment head's hidden layer.
      ema_decay: tau of the teacher.
    """
    kept = MEMORIES[memory](memory_size, feature_decay=feature_decay)
    return chain(
        replay(kept, replay_size, start=replay_size + 1, admit=last_pass),
        align(
            ema(ema_decay, parts=PARTS),
            weight=align_weight,
            hidden=align_hidden,
            train_head=True,
            on="replay",
        ),
    )
