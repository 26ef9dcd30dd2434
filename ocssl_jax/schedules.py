"""Schedules: the learning rate and the momentum of each update, as arrays.

constant       the same in every pass
local_cycle    one cosine cycle of both in each stream batch: SLCLRS, of "Speeding Up
               Online Self-Supervised Learning by Exploiting Its Limitations"
warmup_cosine  up and down once in a given number of stream batches, for learning
               offline: from several epochs over images that are all there

The first two start again with every stream batch, so that a run has no end that they
would need to know. A rate is `peak` times what NumPy knows before, so that several
learners can share a program in which their peaks are arrays.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from ocssl_jax.traced import Number

MOMENTUM_RANGE = (0.95, 0.85)  # at the local cycle's ends, at its peak
FINAL_DIVISOR = 1e4  # first over last learning rate, as torch's OneCycleLR
WARMUP_START = 0.003  # solo-learn's and CaSSLe's first learning rate


class Schedule(NamedTuple):
    """Learning rate and momentum of each update, until both start again."""

    learning_rate: np.ndarray | jax.Array  # [u] float32
    momentum: np.ndarray | jax.Array  # [u] float32
    each_batch: bool = True  # u is the passes of a stream batch


def constant(passes: int, *, peak: Number, momentum: Number) -> Schedule:
    """The same learning rate and momentum in every pass."""
    ones = np.ones(passes, np.float32)
    return Schedule(peak * ones, momentum * ones)


def local_cycle(passes: int, *, peak: Number, rise: float, divisor: float) -> Schedule:
    """One cosine cycle of learning rate and inverse momentum a stream batch (SLCLRS).

    Equal to torch's two-phase OneCycleLR with `total_steps=passes`, whose momentum goes
    from 0.95 to 0.85 and back. The peak lies at pass `rise * passes - 1`, counted from
    0, which need not be a whole number: then no pass has the peak itself. The last pass
    is 10,000 times smaller than the first, hence next to none.

    Args:
      passes: updates a stream batch, N in the paper.
      peak: highest learning rate.
      rise: fraction of the cycle in which the learning rate rises (torch's pct_start).
      divisor: peak over first learning rate.

    Raises:
      ValueError: if `rise * passes` leaves no update to rise in; torch divides by 0.
    """
    top, last = rise * passes - 1, passes - 1
    if not 0 < top < last:
        least = f", so at least {math.floor(1 / rise) + 1} passes" if rise > 0 else ""
        raise ValueError(
            f"schedule local_cycle needs 1 < rise * passes < passes, got rise {rise} "
            f"and passes {passes}: a rise below 1{least}"
        )
    first = 1 / divisor
    far, near = MOMENTUM_RANGE

    def at(n: int) -> tuple[float, float]:
        if n <= top:
            return _cosine(first, 1.0, n / top), _cosine(far, near, n / top)
        p = (n - top) / (last - top)
        return _cosine(1.0, first / FINAL_DIVISOR, p), _cosine(near, far, p)

    rows = np.asarray([at(n) for n in range(passes)])
    return Schedule(_single(peak * rows[:, 0]), _single(rows[:, 1]))


def warmup_cosine(
    passes: int, *, peak: Number, momentum: Number, period: int, warmup: int
) -> Schedule:
    """A straight rise from 0.003, then half a cosine down to 0 (CaSSLe's offline runs).

    CaSSLe moves the rate once an epoch; here each update has its own.

    Args:
      passes: updates a stream batch.
      peak: highest learning rate.
      momentum: in every update.
      period: stream batches after which it starts again: those of a run, or of a task.
      warmup: stream batches of the rise.

    Raises:
      ValueError: unless 0 <= warmup < period.
    """
    if not 0 <= warmup < period:
        raise ValueError(
            "schedule warmup_cosine needs 0 <= warmup < period, in stream batches, "
            f"got warmup {warmup} and period {period}"
        )
    up, down = warmup * passes, (period - warmup) * passes
    way = np.linspace(0.0, 1.0, up) if up else np.empty(0)
    falling = [_cosine(1.0, 0.0, n / down) for n in range(1, down + 1)]
    start = np.concatenate([WARMUP_START * (1 - way), np.zeros(down)])
    rates = peak * np.concatenate([way, falling]) + start
    momenta = momentum * np.ones(len(start), np.float32)
    return Schedule(_single(rates), momenta, each_batch=False)


def _single(values: np.ndarray | jax.Array) -> np.ndarray | jax.Array:
    """As float32; what a program works on may be so already."""
    return values.astype(np.float32)


def _cosine(a: float, b: float, p: float) -> float:
    """From a, at p = 0, to b, at p = 1, along half a cosine."""
    return b + (a - b) / 2 * (1 + math.cos(math.pi * p))


# name -> (passes, *, settings) -> schedule; settings are fields of `config.optimizer`
SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": constant,
    "local_cycle": local_cycle,
    "warmup_cosine": warmup_cosine,
}
