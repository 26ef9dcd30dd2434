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


def plain_memory(name: str, capacity: int, *, feature_decay: float) -> Memory:
    """The memory `name`, which must be one that needs no settings of its own.

    Raises:
      ValueError: naming the memories that may be chosen.
    """
    plain = [known for known in MEMORIES if known != "centroids"]
    if name not in plain:
        raise ValueError(f"memory must be one of {', '.join(plain)}, got {name!r}")
    return MEMORIES[name](capacity, feature_decay=feature_decay)
