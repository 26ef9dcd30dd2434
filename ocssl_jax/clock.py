"""Where the time goes, compilation counted apart from what it was compiled for."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import jax

PARTS = ("train_s", "probe_s")
_compiled = 0.0


def _listen(event: str, duration_secs: float, **_: str | int) -> None:
    global _compiled
    if event.startswith("/jax/core/compile/"):
        _compiled += duration_secs


jax.monitoring.register_event_duration_secs_listener(_listen)


class Clock:
    """Seconds a run has spent, carried over from one process to the next."""

    def __init__(self) -> None:
        """Start at nought."""
        self._began = time.monotonic()
        self._compiled = _compiled
        self._earlier = dict.fromkeys((*PARTS, "compile_s", "total_s"), 0.0)
        self._spent = dict.fromkeys(PARTS, 0.0)

    def add(self, earlier: Mapping[str, float]) -> None:
        """Count the time of the processes before this one."""
        self._earlier = {n: float(earlier.get(n, 0.0)) for n in self._earlier}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the body's time as `name`, less what it compiled."""
        began, compiled = time.monotonic(), _compiled
        yield
        self._spent[name] += time.monotonic() - began - (_compiled - compiled)

    def read(self) -> dict[str, float]:
        """Seconds so far: `train_s`, `probe_s`, `compile_s`, `total_s`."""
        now = self._spent | {
            "compile_s": _compiled - self._compiled,
            "total_s": time.monotonic() - self._began,
        }
        return {name: round(now[name] + s, 3) for name, s in self._earlier.items()}
