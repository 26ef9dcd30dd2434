"""GEN: generative replay at random.

The baseline of Aljundi et al., "Online Continual Learning with Maximally Interfered
Retrieval" (NeurIPS 2019), as in deep generative replay (Shin et al. 2017), online:

y, y' <- the last experience's generator, of latents ~ N(0, 1)

and all else as in `generative.py`.
"""

from collections.abc import Mapping
from typing import Any

from ocssl_jax.strategies.base import Strategy
from ocssl_jax.strategies.generative import any_latents, generative


def gen(
    *, replay_batches: int, replay_weight: float, generator: Mapping[str, Any]
) -> Strategy:
    """Generative replay; arguments as `generative` has them."""
    return generative(
        replay_batches=replay_batches,
        replay_weight=replay_weight,
        generator=generator,
        seek=any_latents,
        remembers_update=False,
    )
