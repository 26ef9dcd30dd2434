"""Clocks: seconds of calls taken in turns, so that all see the same load."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

Name = TypeVar("Name")
Clock = Callable[[], float]  # runs something to its end and says how long it took, in s


class Spread(NamedTuple):
    """Seconds of several runs."""

    median: float
    low: float
    high: float


def spread(seconds: Sequence[float]) -> Spread:
    """Median, fastest and slowest of one run or more."""
    return Spread(statistics.median(seconds), min(seconds), max(seconds))


def timed(call: Callable[[], Any]) -> Clock:
    """A clock of `call`, whose result is waited for if it holds arrays of JAX."""
    import jax  # here: processes that measure something else load nothing of it

    def clock() -> float:
        start = time.perf_counter()
        jax.block_until_ready(call())
        return time.perf_counter() - start

    return clock


def interleaved(
    clocks: Mapping[Name, Clock], repeats: int, *, warm_up: int = 1
) -> dict[Name, list[float]]:
    """Seconds of each clock, `repeats` rounds of all of them one after the other.

    Args:
      clocks: by name.
      repeats: rounds, at least 1.
      warm_up: rounds before these that do not count: the first one compiles.
    """
    found: dict[Name, list[float]] = {name: [] for name in clocks}
    for i in range(warm_up + repeats):
        for name, clock in clocks.items():
            seconds = clock()
            if i >= warm_up:
                found[name].append(seconds)
    return found
