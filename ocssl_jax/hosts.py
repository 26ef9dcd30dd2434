"""Several processes, one run: the first one writes, and all hear how that went.

Every process learns in step with the others. Files, probes and what a person reads are
the first one's; checkpoints are written by all. With one process nothing of this costs
anything.
"""

import os
import re
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from ocssl_jax.errors import (
    Interrupted,
    StorageError,
    TrainingError,
    UsageError,
    of_disk,
)

KINDS = (UsageError, StorageError, TrainingError, Interrupted)
LENGTH = 2000  # bytes of an error's text that travel
T = TypeVar("T")


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Become one of several processes; before anything touches a device.

    Args:
      coordinator: 'host:port' of process 0; None: all three are asked of the cluster.
      processes: how many there are.
      process: which one this is, from 0.

    Raises:
      UsageError: if the others cannot be found.
    """
    try:
        jax.distributed.initialize(coordinator, processes, process, devices_here())
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"cannot join the other processes ({reason}); --distributed works on TPU "
            f"pods, SLURM and MPI, elsewhere give --coordinator, --processes, --process"
        ) from error


def devices_here() -> list[int] | None:
    """Of its node's devices, by number, those of this process; []: all that it sees.

    None leaves it to JAX, which gives a task of SLURM or Open MPI one device, and would
    leave the others idle where a node has one task alone.
    """
    if "JAX_LOCAL_DEVICE_IDS" in os.environ:
        return None
    of_job = os.environ.get("SLURM_TASKS_PER_NODE", "")
    tasks = os.environ.get("SLURM_STEP_TASKS_PER_NODE", of_job)  # as '1(x2)', '8,4'
    alone = re.fullmatch(r"1(\(x\d+\))?", tasks)
    return [] if alone or os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1" else None


def part() -> None:
    """Leave the other processes, which wait for each other lest one is cut off amid it.

    One that hangs is waited for, for some minutes.
    """
    if jax.process_count() > 1:
        jax.distributed.shutdown()


def leads() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def led(act: Callable[[], T]) -> T | None:
    """What `act()` returns on the first process; None on the others, which wait.

    Raises:
      UsageError, StorageError, TrainingError, Interrupted: in every process, if `act`
        raised it in the first.
    """
    if jax.process_count() == 1:
        return act()
    value: T | None = None
    error: Exception | None = None
    if leads():
        try:
            value = act()
        except KINDS as raised:
            error = raised
        except OSError as raised:
            error = of_disk(raised)
    kind = 0 if error is None else 1 + [isinstance(error, k) for k in KINDS].index(True)
    text = np.zeros(LENGTH, np.uint8)
    words = str(error or "").encode()[:LENGTH]
    text[: len(words)] = np.frombuffer(words, np.uint8)
    kind, text = multihost_utils.broadcast_one_to_all((np.int32(kind), text))
    if error is not None:
        raise error
    if kind:
        raise KINDS[kind - 1](bytes(text).rstrip(b"\0").decode(errors="ignore"))
    return value


def decided(act: Callable[[], bool]) -> bool:
    """The first process's answer, in all of them."""
    answer = led(act)
    if jax.process_count() == 1:
        return bool(answer)
    return bool(multihost_utils.broadcast_one_to_all(np.bool_(bool(answer))))


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.bool_(flag)).any())
