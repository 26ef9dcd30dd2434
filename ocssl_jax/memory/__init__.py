"""What is kept of the stream."""

from collections.abc import Callable

from ocssl_jax.core import Memory
from ocssl_jax.memory.centroids import centroids
from ocssl_jax.memory.fifo import fifo
from ocssl_jax.memory.minred import minred
from ocssl_jax.memory.part_and_select import part_and_select
from ocssl_jax.memory.reservoir import reservoir

MEMORIES: dict[str, Callable[..., Memory]] = {
    "reservoir": reservoir,
    "fifo": fifo,
    "centroids": centroids,
    "minred": minred,
    "part_and_select": part_and_select,
}

# Those that a capacity and a decay describe.
PLAIN = tuple(name for name in MEMORIES if name != "centroids")


def plain(name: str, capacity: int, *, feature_decay: float) -> Memory:
    """The plain memory `name`, which any strategy with replay can use.

    Raises:
      ValueError: if it is none of `PLAIN`, or a setting is outside its range.
    """
    if name not in PLAIN:
        raise ValueError(f"memory must be one of {', '.join(PLAIN)}, got {name!r}")
    return MEMORIES[name](capacity, feature_decay=feature_decay)
