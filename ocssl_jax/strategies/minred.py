"""MinRed (Purushwalkam et al. 2022): train on the memory alone, the least redundant.

memory <- stream, before the passes, evicting the most redundant
x <- min(R, size) rows of the memory;   L = L_ssl(x)
after each pass:   f <- alpha f + (1 - alpha) mean over views of z
"""

from typing import Any

import jax

from ocssl_jax.core import Augment, Batch, Key, Learner, Model, Stream
from ocssl_jax.memory import plain
from ocssl_jax.strategies.base import Strategy
from ocssl_jax.strategies.replay import embedding, replay


def minred(
    *,
    memory: str,
    memory_size: int,
    replay_size: int,
    feature_decay: float,
    embed_in_train_mode: bool,
) -> Strategy:
    """MinRed on its memory, or its way of training on another one.

    Args:
      memory: 'minred', or another plain memory.
      memory_size: images kept, N.
      replay_size: rows of the memory a pass, R.
      feature_decay: alpha of the features that redundancy is judged by.
      embed_in_train_mode: embed stream images for the memory with the BN statistics of
        the batch, moving the running ones, as the released code does.
    """
    kept = plain(memory, memory_size, feature_decay=feature_decay)
    admit = embedding(train=embed_in_train_mode)
    part = replay(kept, replay_size, start=1, admit=admit)

    def begin(
        key: Key, state: Any, learner: Learner, stream: Stream
    ) -> tuple[Any, Model]:
        # What replay does after the passes; the embedding needs no pass.
        return part.end(key, state, learner, stream, None)

    def draw(
        key: Key, state: Any, learner: Learner, stream: Stream, augment: Augment
    ) -> Batch:
        del learner, stream  # the stream's rows are in the memory already
        k_sample, k_augment = jax.random.split(key)
        rows = kept.sample(k_sample, state, replay_size)
        return Batch(
            views=augment(k_augment, rows.items["image"]),
            mask=rows.mask,
            items=rows.items,
            slot=rows.slot,
            stored=rows.feature,
            replayed=replay_size,
        )

    return part._replace(begin=begin, draw=draw, end=Strategy().end)
