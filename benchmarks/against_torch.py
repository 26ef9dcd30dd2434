"""Times a stream batch of CLIMB beside the same one in plain PyTorch.

  python -m benchmarks.against_torch --case slim_resnet18-20,resnet18-138 --repeats 10
  python -m benchmarks.against_torch --check

Needs PyTorch: pip install -e '.[bench]'. Both sides are the whole of it: sampling the
memory, augmentation per image, 2 views x 3 passes, SimCLR, alignment to an EMA teacher,
SGD, refreshed centroids, the stream batch entering the memory; float32, from the same
weights and the same full memory (benchmarks/in_torch is the PyTorch side, our own code
too). Each side has a process with the same cores; their stream batches take turns.

`peak mib` is the most memory that a process had resident, with imports and compilation,
`running mib` that while it was timed, `card mib` what was allocated on a GPU. `--check`
shows the same views to both sides instead and fails if a loss of any pass differs by
more than 1e-3, or the memories afterwards.
"""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import commandline
from benchmarks.cases import CASES, fields_of
from benchmarks.tables import Row
from benchmarks.timing import interleaved
from benchmarks.workers import Failed, Plan, running

BEGINNING = "benchmarks.ours:beginning"
SIDES = ("benchmarks.ours:stream_batch", "benchmarks.in_torch.sides:stream_batch")


def compared(name: str, fields: Mapping[str, Any], args: Any) -> tuple[Row, str]:
    """Stream batches of both sides, interleaved; and the device.

    Args:
      name: of the row.
      fields: the config, as JSON holds it.
      args: with `repeats`, `threads` and `device`.

    Raises:
      Failed: if a side cannot be set up.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = (fields, Path(folder) / "start.npz")
        first, *plans = [
            Plan(make, given, args.threads, args.device) for make in (BEGINNING, *SIDES)
        ]
        with running(first):
            pass  # it is written
        with running(*plans) as (ours, theirs):
            clocks = {"ours": ours.clock("step"), "torch": theirs.clock("step")}
            interleaved(clocks, 2, warm_up=0)
            for worker in (ours, theirs):
                worker.settle()
            seconds = interleaved(clocks, args.repeats, warm_up=0)
            device = ours.device
            more = ours.close().named("ours") | theirs.close().named("torch")
    return Row(name, seconds["ours"], seconds["torch"], more), device


def checked(names: tuple[str, ...], *, small: bool) -> Iterator[str]:
    """What was compared, a line each."""
    from benchmarks import parity

    yield f"augmentation: pixels differ by {parity.augmentations():.1e} at most"
    for name in names:
        for i, terms in enumerate(parity.losses(fields_of(name, small=small))):
            values = ", ".join(f"{key} {value:.5f}" for key, value in terms.items())
            yield f"{name}, pass {i}: {values}"


def main() -> None:
    """Parse the flags, measure, print."""
    parser = commandline.parser(__doc__, cases="the networks", repeats=10)
    commandline.add_sides(parser)
    parser.add_argument("--check", action="store_true", help="compare, do not time")
    args = commandline.parsed(parser)
    names = commandline.chosen(parser, args.case, CASES)
    if not commandline.has_torch():
        commandline.fail(commandline.NO_TORCH)
    if args.check:
        for line in checked(names, small=args.small):
            print(line, flush=True)
        return
    try:
        found = [
            compared(name, fields_of(name, small=args.small), args) for name in names
        ]
    except Failed as error:
        commandline.fail(str(error))
    commandline.finish(args, found[0][1], [each for each, _ in found])


if __name__ == "__main__":
    main()
