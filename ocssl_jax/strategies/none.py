"""No strategy: plain fine-tuning on the stream, the lower bound of every table."""

from ocssl_jax.strategies.base import Strategy


def none() -> Strategy:
    """Train on each stream batch and keep nothing of it."""
    return Strategy()
