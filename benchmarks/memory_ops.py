"""Times the memories' operations, CLIMB's beside a list-based one in PyTorch.

  python -m benchmarks.memory_ops --case climb --repeats 20

At the papers' sizes: a stream batch of 10, 128 rows drawn and refreshed, 2,500 images,
CLIMB's projections 2,048 wide, Part-and-Select's features 512. Every round starts from
the same full memory and takes another stream batch.

`consolidate` is CLIMB's re-encoding of all that is stored, with an encoder that costs
next to nothing: the memory's own part. `a stream batch` is processing and three times
sampling and refreshing in one call, as a step has them, and the share of a
consolidation that falls on a batch; `every` says how many batches of this stream lie
between two. The PyTorch side is our own, after
the paper's text (benchmarks/in_torch/memory.py); the other memories have none. Without
PyTorch only our times are measured. `--check` steps both of CLIMB's memories through
the same stream until they consolidate and compares them after each batch.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import commandline
from benchmarks.cases import fields_of
from benchmarks.tables import Row
from benchmarks.timing import Clock, interleaved
from benchmarks.workers import Failed, Plan, Worker, running

PLAIN = ("minred", "part_and_select", "reservoir", "fifo")
OURS = "benchmarks.ours:climb_memory"
THEIRS = "benchmarks.in_torch.sides:climb_memory"
SIZES = "resnet18-138"  # the case whose memory is the papers'


def prepared(worker: Worker, call: str) -> Clock:
    """A clock of a call that starts from the full memory."""
    prepare, run = worker.clock("prepare"), worker.clock(call)

    def clock() -> float:
        prepare()
        return run()

    return clock


def measured(
    workers: Sequence[Worker], calls: Sequence[str], repeats: int
) -> dict[tuple[str, int], list[float]]:
    """Seconds by call and place of the worker."""
    clocks = {
        (call, i): prepared(worker, call)
        for call in calls
        for i, worker in enumerate(workers)
    }
    return interleaved(clocks, repeats, warm_up=2)


def climb_rows(fields: Mapping[str, Any], args: Any) -> tuple[list[Row], str]:
    """CLIMB's operations on both sides; and the device."""
    made = [OURS, THEIRS] if commandline.has_torch() else [OURS]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "memory.npz"
        plans = [Plan(m, (fields, path), args.threads, args.device) for m in made]
        calls = ("process", "sample", "refresh", "consolidate")
        with running(*plans) as workers:
            found = measured(workers, (*calls, "batch"), args.repeats)
            device = workers[0].device
            every = int(np.load(path, allow_pickle=False)["every"])

    def a_batch(i: int) -> Iterator[float]:
        each = zip(found["batch", i], found["consolidate", i], strict=True)
        return (batch + consolidate / every for batch, consolidate in each)

    def row(name: str, *sides: list[float], **more: Any) -> Row:
        return Row(f"climb: {name}", sides[0], sides[1] if sides[1:] else (), more)

    sides = range(len(made))
    rows = [row(words(fields, c), *(found[c, i] for i in sides)) for c in calls]
    whole = [list(a_batch(i)) for i in sides]
    return [*rows, row("a stream batch", *whole, every=every)], device


def words(fields: Mapping[str, Any], call: str) -> str:
    """The operation and of how many rows it is."""
    drawn, rows = fields["strategy"]["replay_size"], fields["stream"]["batch_size"]
    counts = {"process": rows, "add": rows, "sample": drawn, "refresh": drawn}
    return f"{call} {counts[call]}" if call in counts else call


def plain_rows(
    name: str, fields: Mapping[str, Any], args: Any
) -> tuple[list[Row], str]:
    """The operations of a memory without a counterpart; and the device."""
    make = "benchmarks.ours:plain_memory"
    calls = ("add", "sample", "refresh")
    with running(Plan(make, (name, fields), args.threads, args.device)) as workers:
        found = measured(workers, calls, args.repeats)
        device = workers[0].device
    rows = [Row(f"{name}: {words(fields, call)}", found[call, 0]) for call in calls]
    return rows, device


def check(fields: Mapping[str, Any]) -> None:
    """Step both of CLIMB's memories until they consolidate; raise if they differ."""
    from benchmarks import parity

    batches = parity.memories_agree(fields)
    print(f"climb: both memories are the same over {batches} stream batches, the last")
    print("of which consolidated them")


def main() -> None:
    """Parse the flags, measure, print."""
    parser = commandline.parser(__doc__, cases="the memories", repeats=20)
    commandline.add_sides(parser)
    parser.add_argument("--check", action="store_true", help="compare, do not time")
    args = commandline.parsed(parser)
    names = commandline.chosen(parser, args.case, ("climb", *PLAIN))
    fields = fields_of(SIZES, small=args.small)
    if not commandline.has_torch():
        if args.check:
            commandline.fail(commandline.NO_TORCH)
        print(f"{commandline.NO_TORCH}; without it only our side is measured")
    if args.check:
        check(fields)
        return
    rows: list[Row] = []
    try:
        for name in names:
            more, device = (
                climb_rows(fields, args)
                if name == "climb"
                else plain_rows(name, fields, args)
            )
            rows += more
    except Failed as error:
        commandline.fail(str(error))
    commandline.finish(args, device, rows)


if __name__ == "__main__":
    main()
