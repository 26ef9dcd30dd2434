"""CLIMB (Lefebvre, Duffner, Lefort, CoLLAs 2026): centroid replay and EMA alignment.

x <- replay(R; half LTM, half STM) + stream(b)
L = L_ssl(x) + lambda * mean over replayed rows of -cos(a(z), z_ema)
after each pass:   replayed centroids move, EMA <- tau EMA + (1 - tau) params
after the passes:  each stream image meets the memory with its fresh embedding
"""

from typing import Any

from ocssl_jax.memory.centroids import centroids
from ocssl_jax.strategies.align import align
from ocssl_jax.strategies.base import Strategy, chain
from ocssl_jax.strategies.replay import embedding, replay
from ocssl_jax.strategies.spaces import space_of
from ocssl_jax.strategies.teachers import ema


def climb(
    *,
    batch_size: int,
    memory_size: int,
    replay_size: int,
    align_on: str,
    align_criterion: str,
    align_weight: float,
    align_hidden: int,
    use_aligner: bool,
    ema_decay: float,
    ema_parts: tuple[str, ...],
    train_head: bool,
    embed_in_train_mode: bool,
    centroid_memory: dict[str, Any],
) -> Strategy:
    """CLIMB with its STM/LTM memory.

    Args:
      batch_size: b, rows of a stream batch.
      memory_size: N, images held when the memory consolidates.
      replay_size: R, replayed rows a pass; replay starts once as many are held.
      align_on: 'projection' (the paper's z) or 'feature', what the centroids are made
        of and what is aligned.
      align_criterion: 'cosine', 'mse' or 'ssl', the method's own objective.
      align_weight: lambda, 2 for CIFAR-100 and 1 for ImageNet-100.
      align_hidden: width of the alignment head's hidden layer.
      use_aligner: whether there is a head a; without one z itself is aligned.
      ema_decay: tau_ema.
      ema_parts: what the EMA covers; the released code leaves the projector out.
      train_head: whether the alignment head is trained; the released code doesn't.
      embed_in_train_mode: embed stream images for the memory with the BN statistics of
        the batch, moving the running ones, as the released code does.
      centroid_memory: settings of `memory.centroids.centroids`.
    """
    memory = centroids(budget=memory_size, batch_size=batch_size, **centroid_memory)
    return chain(
        replay(
            memory,
            replay_size,
            start=replay_size,
            admit=embedding(train=embed_in_train_mode),
            space=space_of(align_on),
        ),
        align(
            ema(ema_decay, parts=ema_parts),
            rows="replay",
            on=align_on,
            criterion=align_criterion,
            weight=align_weight,
            hidden=align_hidden,
            use_aligner=use_aligner,
            train_head=train_head,
        ),
    )
