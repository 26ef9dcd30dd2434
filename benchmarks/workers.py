"""A process for each side of a comparison, driven in turns by one that only waits.

So neither library's threads or memory disturb the other's measurement, both get the
same cores, and each side's peak memory is its process's own.
"""

import importlib
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.timing import Clock

SETTLE, END = "(settle)", "(end)"  # messages that are no calls


class Side(NamedTuple):
    """What a process offers to be timed."""

    device: str  # its name, or 'cpu'
    platform: str  # 'cpu' or 'gpu'
    calls: Mapping[str, Callable[[], Any]]  # each returns once all is done
    card_peak: Callable[[], int]  # bytes of the accelerator's memory, 0 on a CPU


class Memory(NamedTuple):
    """Peaks in MiB; None where the system does not tell."""

    peak: float  # resident, since the process began: imports and compilation too
    running: float | None  # resident, since `Worker.settle`
    card: float  # of the accelerator's allocator, 0 on a CPU

    def named(self, side: str) -> dict[str, int | None]:
        """As columns of a table."""
        found = {"peak": self.peak, "running": self.running, "card": self.card or None}
        return {
            f"{side}_{name}_mib": None if value is None else round(value)
            for name, value in found.items()
        }


class Plan(NamedTuple):
    """How a side's process is set up."""

    make: str  # 'module:function' that returns its Side
    arguments: tuple[Any, ...]
    threads: int
    device: str  # 'cpu', or 'auto' for the accelerator if there is one


class Failed(RuntimeError):
    """A side could not be set up, or broke down; says why."""


class Worker:
    """The other end of a side's process."""

    def __init__(self, plan: Plan):
        """Start the process and wait until it is ready.

        Raises:
          Failed: if it cannot be set up.
        """
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, plan), daemon=True)
        self._process.start()
        theirs.close()
        self.device, self.platform = self._answer()

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError as error:
            self._process.join()
            code = self._process.exitcode
            raise Failed(f"a side's process ended with code {code}") from error
        if isinstance(answer, Failed):
            raise answer
        return answer

    def clock(self, call: str) -> Clock:
        """A clock of one of the side's calls, which the side itself holds."""

        def ask() -> float:
            self._pipe.send(call)
            seconds: float = self._answer()
            return seconds

        return ask

    def settle(self) -> None:
        """Measure memory from now on: all is compiled and warm."""
        self._pipe.send(SETTLE)
        self._answer()

    def close(self) -> Memory:
        """End the process; what memory it needed."""
        self._pipe.send(END)
        peaks: Memory = self._answer()
        self._process.join()
        return peaks

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._process.terminate()


@contextmanager
def running(*plans: Plan) -> Iterator[list[Worker]]:
    """Workers on the same kind of device.

    Raises:
      Failed: if one cannot be set up, or they landed on different devices.
    """
    workers: list[Worker] = []
    try:
        for plan in plans:  # one after the other: the first may write what others read
            workers.append(Worker(plan))
        platforms = {worker.platform for worker in workers}
        if len(platforms) > 1:
            raise Failed("the sides compute on different devices; give --device cpu")
        yield workers
    finally:
        for worker in workers:
            worker.kill()


def serve(pipe: Connection, plan: Plan) -> None:
    """The process of one side: make it, then time its calls until told to end."""
    set_up(plan)
    try:
        module, _, function = plan.make.partition(":")
        side: Side = getattr(importlib.import_module(module), function)(*plan.arguments)
        pipe.send((side.device, side.platform))
        before, settled = 0.0, False
        while (call := pipe.recv()) != END:
            if call == SETTLE:
                before, settled = peak(), forget_peak()
                pipe.send(settled)
                continue
            start = time.perf_counter()
            side.calls[call]()
            pipe.send(time.perf_counter() - start)
        now, card = peak(), side.card_peak() / 2**20
        pipe.send(Memory(max(before, now), now if settled else None, card))
    except Exception as error:
        pipe.send(Failed(f"{plan.make}: {type(error).__name__}: {error}"))


def peak() -> float:
    """MiB that were resident at most, since the start or `forget_peak`."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def forget_peak() -> bool:
    """Start the resident memory's high-water mark anew, where the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def set_up(plan: Plan) -> None:
    """Cores, threads and device, before any library looks at them."""
    if hasattr(os, "sched_setaffinity"):  # XLA: a thread for each core it may use
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: plan.threads])
    os.environ["OMP_NUM_THREADS"] = str(plan.threads)
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # two sides share a card
    if plan.device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
