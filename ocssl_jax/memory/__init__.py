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
