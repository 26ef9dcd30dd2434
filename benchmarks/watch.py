"""How long the devices of a run wait for its host, while it runs as always.

A run launches a chunk, gathers the next one, and waits for the first one's metrics.
From these to the next launch the devices have nothing to do: logs, checkpoints, probes.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from ocssl_jax import seeds
from ocssl_jax.seeds import Carrier


class Watch:
    """Stands between a run and what carries its seeds, with a clock in its hand.

    The first chunk of a process, which compiles, does not count.
    """

    def __init__(self) -> None:
        """Nothing is seen yet."""
        self.batches = 0
        self.busy = self.idle = 0.0  # seconds, of the devices
        self._ready: float | None = None  # when the last metrics came
        self._launched = 0.0

    def carrier(self, made: Carrier) -> Carrier:
        """The same one, watched."""

        def learn(*args: Any) -> Any:
            result = made.learn(*args)
            self._launched = time.perf_counter()
            if self._ready is not None:
                self.idle += self._launched - self._ready
            return result

        def metrics(seen: Any, batches: int) -> Any:
            found = made.metrics(seen, batches)
            first, self._ready = self._ready is None, time.perf_counter()
            if not first:
                self.busy += self._ready - self._launched
                self.batches += batches
            return found

        return made._replace(learn=learn, metrics=metrics)


@contextmanager
def watching() -> Iterator[Watch]:
    """What runs that begin meanwhile do to their devices."""
    watch, carrier = Watch(), seeds.carrier
    watched = lambda *args, **how: watch.carrier(carrier(*args, **how))
    with mock.patch.object(seeds, "carrier", watched):
        yield watch
