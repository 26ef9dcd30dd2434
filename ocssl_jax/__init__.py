"""Online continual self-supervised learning in JAX."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ocssl_jax.online import Learner

__all__ = ["Learner"]


def __getattr__(name: str) -> Any:
    """`Learner` is imported when it is asked for: it needs all of the library."""
    if name == "Learner":
        from ocssl_jax.online import Learner

        return Learner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
