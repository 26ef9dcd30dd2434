"""Times a stream batch of several seeds: in turn, and together in one program.

  python -m benchmarks.seeds --case convnet-20 --seeds 1,2,4,8,16

CLIMB with full memories. A line is the time until every seed has learnt its stream
batch; `per seed` divides it by their number and by the time of one seed in turn, so
below 1 they gain from each other. On an accelerator `together` is what a run uses, on a
CPU `in turn`.
"""

import argparse
import dataclasses
import statistics
from collections.abc import Iterator
from typing import Any

import jax

from benchmarks import cases, commandline
from benchmarks.learners import Subject, arrivals, started, subject
from benchmarks.memories import copied
from benchmarks.tables import Row
from benchmarks.timing import Clock, interleaved, timed
from ocssl_jax import seeds
from ocssl_jax.core import TrainState

FORMS = {"in turn": seeds.in_turn, "together": seeds.together}


def copies(state: TrainState, count: int) -> list[TrainState]:
    """As many states of their own, alike but for the keys of their future."""
    return [
        dataclasses.replace(copied(state), key=jax.random.fold_in(state.key, i))
        for i in range(count)
    ]


def clock(found: Subject, state: TrainState, form: str, count: int) -> Clock:
    """A clock of one stream batch for each of `count` seeds that start at `state`."""
    group = FORMS[form](found.learning.init, found.learning.step)
    states, batches = group.join(copies(state, count)), arrivals(found, count)

    def call() -> Any:
        nonlocal states
        states, metrics = group.step(states, batches)
        return states, metrics

    return timed(call)


def rows(
    case: str, counts: tuple[int, ...], *, repeats: int, small: bool
) -> Iterator[Row]:
    """Both forms of each number of seeds, the forms interleaved."""
    found = subject(cases.config_of(cases.fields_of(case, small=small)))
    state, one = started(found), None
    for count in counts:
        clocks = {form: clock(found, state, form, count) for form in FORMS}
        for form, seconds in interleaved(clocks, repeats).items():
            middle = statistics.median(seconds)
            if count == 1 and form == "in turn":
                one = middle
            share = middle / count / one if one else None
            more = {"seeds": count, "form": form, "per_seed": share}
            yield Row(f"{case}, {count} {form}", seconds, more=more)


def numbers(word: str) -> tuple[int, ...]:
    """'4,1,2' as whole numbers in order, each at least 1."""
    found = sorted({int(part) for part in word.split(",")})
    if found[0] < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1 each, got {word}")
    return tuple(found)


def main() -> None:
    """Parse the flags, measure, print."""
    parser = commandline.parser(__doc__, cases="the networks", repeats=5)
    parser.add_argument("--seeds", type=numbers, default=None, help="how many, commas")
    args = commandline.parsed(parser)
    names = commandline.chosen(parser, args.case or "convnet-20", cases.CASES)
    counts = args.seeds or ((1, 2) if args.small else (1, 2, 4, 8, 16))
    found = [
        row
        for name in names
        for row in rows(name, counts, repeats=args.repeats, small=args.small)
    ]
    commandline.finish(args, jax.devices()[0].device_kind, found)


if __name__ == "__main__":
    main()
