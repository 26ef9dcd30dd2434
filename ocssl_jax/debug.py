"""What `config.debug` adds: a stream batch that broke a seed is gone through again."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ocssl_jax.core import Stream, TrainState
from ocssl_jax.faults import Fault
from ocssl_jax.first_operation import first_operation
from ocssl_jax.seeds import at
from ocssl_jax.step import Step


class Debug:
    """Keeps what each stream batch began with."""

    def __init__(self, step: Step):
        """`step` learns a stream batch."""
        self._step = step

    def keep(self, states: Sequence[TrainState], feed: Stream) -> None:
        """Copy every seed's state, which learning may overwrite, and one stream batch.

        Args:
          states: one a seed.
          feed: [1 seeds ...].
        """
        self._states = [jax.tree.map(_copied, state) for state in states]
        self._feed = feed

    def explained(
        self, found: Mapping[int, Fault], seeds: Sequence[int]
    ) -> dict[int, Fault]:
        """The faults of the batch kept, with the operation that each came from."""
        return {
            seed: self._explained(f, seeds.index(seed)) for seed, f in found.items()
        }

    def _explained(self, fault: Fault, index: int) -> Fault:
        stream = at(self._feed, 0, index)
        guilty = first_operation(self._step, self._states[index], stream)
        words = f"first in {guilty}" if guilty else "in no operation run alone"
        return fault._replace(reason=f"{fault.reason}, {words}")


def _copied(x: Any) -> Any:
    """A copy on this process's own device."""
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_copied(jax.random.key_data(x)))
    return jnp.asarray(np.array(x))
