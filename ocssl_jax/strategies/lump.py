"""LUMP (Madaan et al. 2022): train on mixtures of stream and memory.

x_m <- replay(b);   x_s <- stream(b);   lambda ~ Beta(alpha, alpha), one a pass
x = lambda x_s + (1 - lambda) x_m, view by view, after augmentation
L = L_ssl(x);   memory <- stream, after the passes
"""

from typing import Any

import jax
import jax.numpy as jnp

from ocssl_jax.core import Array, Augment, Batch, Key, Learner, Stream
from ocssl_jax.strategies.base import Strategy
from ocssl_jax.strategies.replay import plain_replay


def mixture(share: Array, new: Array, old: Array) -> Array:
    """Views [v n h w c] of which `share` [n] is new and the rest old."""
    share = share[None, :, None, None, None]
    return share * new + (1 - share) * old


def lump(
    *,
    batch_size: int,
    memory: str,
    memory_size: int,
    feature_decay: float,
    alpha: float,
) -> Strategy:
    """LUMP on a reservoir, as in the paper, or another plain memory.

    The method sees b rows in every pass: those of the stream, each mixed with a row of
    the memory once that holds more than b, and as they are until then.

    Args:
      batch_size: b, rows of a stream batch, and of a replay batch.
      memory: 'reservoir', 'fifo' or another plain memory.
      memory_size: images kept, N, above b.
      feature_decay: of the features kept beside the images; LUMP uses none, so they
        are left as their images' last mixtures gave them.
      alpha: both parameters of the Beta distribution, above 0; 1 is uniform, and the
        nearer to 0, the less is mixed.

    Raises:
      ValueError: if the memory cannot hold more than a stream batch.
    """
    if memory_size <= batch_size:
        raise ValueError(
            f"memory_size must be above the stream's batch_size {batch_size}, got"
            f" {memory_size}: mixing starts once more rows are held"
        )
    joined = plain_replay(memory, memory_size, batch_size, feature_decay=feature_decay)

    def draw(
        key: Key, state: Any, learner: Learner, stream: Stream, augment: Augment
    ) -> Batch:
        k_rows, k_share = jax.random.split(key)
        both = joined.draw(k_rows, state, learner, stream, augment)
        old, new = jnp.split(both.views, 2, axis=1)
        share = jax.random.beta(k_share, alpha, alpha)
        share = jnp.where(both.replay_mask, share, 1.0)
        views = mixture(share, new, old)
        return Batch(views=views, mask=stream.mask, items=stream.items())

    return joined._replace(draw=draw, update=Strategy().update)
