"""Learns the same stream batches on a CPU and on the accelerator, and compares them.

  python -m benchmarks.agreement --case convnet-20,slim_resnet18-20

Two seeds of CLIMB with a memory so small that it fills and is consolidated: on the CPU
one after the other, on the accelerator in the program of a chunk, as runs carry them;
without an accelerator both are on the CPU. `differs` is the largest difference of a
number of the log (losses, norms, threshold), over 1 + its size, in the first stream
batches; `counts` says whether the memory made the same decisions in them. `later` is
the difference over all batches: rounding grows where a ReLU or a threshold switches, on
one device as between two, so nothing is asked of it.

`exact` has all products in full float32. It has to differ by at most `--tolerance`,
with the same counts, else the exit code is 1. `float32`, whose products an accelerator
may round to TF32, and `bfloat16` are beside the CPU's exact one to be looked at.
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import commandline
from benchmarks.cases import CASES, SMALL_MEMORY, fields_of
from benchmarks.tables import Row
from benchmarks.workers import Failed, Plan, running

MAKE = "benchmarks.ours:learnt"
KINDS = ("exact", "float32", "bfloat16")
CHUNKS, LENGTH = 3, 8  # stream batches: about two consolidations
SMALL_LENGTH = 4
FIRST = 4  # stream batches in which rounding has not grown yet
FIELDS: dict[str, Any] = {
    "optimizer__learning_rate": 1e-3,  # a large one blows rounding up, step by step
    "strategy__replay_size": 10,
    "strategy__memory_size": 75,
    **{f"strategy__climb__centroid_memory__{k}": v for k, v in SMALL_MEMORY.items()},
}

Log = Mapping[str, np.ndarray]  # name -> [batches seeds ...]


def learnt(
    case: str, kind: str, args: Any, *, device: str, together: bool
) -> tuple[Log, float, str]:
    """The log of one side, seconds of a stream batch of both seeds, and the device.

    Args:
      case: a name of `CASES`.
      kind: of `KINDS`.
      args: with `threads` and `small`.
      device: 'cpu', or 'auto' for the accelerator.
      together: whether seeds share the program of a chunk, else take turns.

    Raises:
      Failed: if it cannot be computed.
    """
    precision = "bfloat16" if kind == "bfloat16" else "float32"
    fields = fields_of(case, small=args.small, precision=precision, **FIELDS)
    length = SMALL_LENGTH if args.small else LENGTH
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.npz"
        given = (fields, path, kind == "exact", together, length)
        with running(Plan(MAKE, given, args.threads, device)) as (worker,):
            chunk = worker.clock("chunk")
            seconds = [chunk() / length for _ in range(CHUNKS)]
            worker.clock("write")()
            name = worker.device
            worker.close()
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays), min(seconds), name


def differs(log: Log, other: Log) -> tuple[float, bool]:
    """Largest difference of floats over 1 + their size; whether integers are equal.

    Raises:
      Failed: if the logs are not of the same numbers, or not finite.
    """
    if log.keys() != other.keys():
        raise Failed(f"the sides log {sorted(log)} and {sorted(other)}")
    floats, equal = [0.0], True
    for name, values in log.items():
        a, b = values, other[name]
        if a.dtype.kind != "f":
            equal &= np.array_equal(a, b)
            continue
        # An empty memory's threshold is infinite on both sides.
        gap = np.where(a == b, 0.0, np.abs(a - b) / (1 + np.abs(b)))
        if not np.isfinite(gap).all():
            raise Failed(f"{name} is not finite on one side")
        floats.append(float(gap.max()))
    return max(floats), equal


def rows(case: str, args: Any) -> Iterator[tuple[Row, str]]:
    """Every kind beside the CPU's exact one; and the device."""
    exact, _, _ = learnt(case, "exact", args, device="cpu", together=False)
    for kind in KINDS:
        log, seconds, device = learnt(
            case, kind, args, device=args.device, together=True
        )
        first = [{name: x[:FIRST] for name, x in one.items()} for one in (log, exact)]
        gap, equal = differs(*first)
        later, _ = differs(log, exact)
        counts = "same" if equal else "other"
        more = {"kind": kind, "differs": gap, "counts": counts, "later": later}
        yield Row(f"{case}, {kind}", [seconds], more=more), device


def wrong(row: Row, tolerance: float) -> bool:
    """Whether a row is not what it has to be."""
    more = row.more or {}
    off = not more["differs"] <= tolerance or more["counts"] != "same"
    return more["kind"] == "exact" and off


def main() -> None:
    """Parse the flags, learn, print; leave with code 1 if they do not agree."""
    parser = commandline.parser(__doc__, cases="the networks")
    commandline.add_sides(parser)
    parser.add_argument("--tolerance", type=float, default=1e-3, help="of `exact`")
    args = commandline.parsed(parser)
    names = commandline.chosen(parser, args.case or "convnet-20", CASES)
    try:
        found = [pair for name in names for pair in rows(name, args)]
    except Failed as error:
        commandline.fail(str(error))
    commandline.finish(args, found[0][1], [row for row, _ in found])
    for row, _ in found:
        if wrong(row, args.tolerance):
            print(f"{row.name}: this is not what the CPU computes", file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    main()
