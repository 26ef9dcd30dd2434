"""AE: replay at random of what an autoencoder keeps.

The baseline of AE-MIR in Aljundi et al., "Online Continual Learning with Maximally
Interfered Retrieval" (NeurIPS 2019), figure 4:

y <- decode(R codes of the memory, any of earlier experiences)

and all else as in `hybrid.py`.
"""

from collections.abc import Mapping
from typing import Any

from ocssl_jax.core import Key, Learner, Memory, Stream
from ocssl_jax.strategies.base import Strategy
from ocssl_jax.strategies.coding import Coding
from ocssl_jax.strategies.hybrid import Chosen, Hybrid, hybrid, past_rows


def ae(
    *,
    image_shape: tuple[int, ...],
    epochs: int,
    memory: str,
    memory_size: int,
    replay_size: int,
    autoencoder: Mapping[str, Any],
    raw_first: bool,
    strength: float,
) -> Strategy:
    """Replay of codes at random; arguments as `hybrid` has them."""

    def choose(
        key: Key,
        state: Hybrid,
        coding: Coding,
        store: Memory,
        learner: Learner,
        stream: Stream,
    ) -> Chosen:
        del coding, learner, stream
        drawn = past_rows(key, state, store, replay_size)
        return Chosen(drawn.items, drawn.mask, {})

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
        remembers_classifier=False,
    )
