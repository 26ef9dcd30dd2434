"""Where alignment compares and what memories store beside an image.

Projections z [... d] are the projector's outputs, features e [... f] the backbone's.
"""

from collections.abc import Callable

from ocssl_jax.core import Array, Features, Outputs

Space = Callable[[Features | Outputs], Array]


def projection(seen: Features | Outputs) -> Array:
    """z, in the width of the projector."""
    return seen.z


def feature(seen: Features | Outputs) -> Array:
    """e, in the width of the backbone."""
    return seen.e


SPACES: dict[str, Space] = {"projection": projection, "feature": feature}


def space_of(name: str) -> Space:
    """The space `name`.

    Raises:
      ValueError: naming the spaces there are.
    """
    if name not in SPACES:
        raise ValueError(f"align_on must be one of {', '.join(SPACES)}, got {name!r}")
    return SPACES[name]
