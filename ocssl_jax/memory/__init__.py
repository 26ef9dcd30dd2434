"""What is kept of the stream."""

from collections.abc import Callable

from ocssl_jax.core import Memory
from ocssl_jax.memory.centroids import centroids
from ocssl_jax.memory.fifo import fifo
from ocssl_jax.memory.reservoir import reservoir

MEMORIES: dict[str, Callable[..., Memory]] = {
    "reservoir": reservoir,
    "fifo": fifo,
    "centroids": centroids,
}
