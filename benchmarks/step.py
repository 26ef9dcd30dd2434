"""Times a stream batch of every strategy, as the one program it is and part by part.

  python -m benchmarks.step --case er,scale,climb
  python -m benchmarks.step --network resnet18-138 --case climb --repeats 5

Memories are full, images noise, one seed. `climb` is the whole step. The lines below it
are its parts (benchmarks/parts.py), time a stream batch, so those of a pass are summed
over the passes; called apart they cost more than within the whole. `scale_fifo` replays
from a FIFO: the difference to `scale` is what Part-and-Select costs. `of er` is a
multiple of ER's time, if that is among the cases. `--whole` leaves the parts out;
`--check` compares their losses with those of the step instead of timing them.
"""

import statistics
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from benchmarks import cases, commandline, parts
from benchmarks.learners import Subject, arrivals, started, subject
from benchmarks.memories import copied
from benchmarks.tables import Row
from benchmarks.timing import Clock, interleaved, timed
from ocssl_jax.compiling import jit
from ocssl_jax.core import TrainState
from ocssl_jax.strategies import STRATEGIES, SUPERVISED

VARIANTS: dict[str, dict[str, Any]] = {
    **{n: {"strategy__name": n} for n in STRATEGIES if n not in SUPERVISED},
    "scale_fifo": {"strategy__name": "scale", "strategy__scale__memory": "fifo"},
}
NETWORK = "convnet-20"


def made(name: str, network: str, *, small: bool) -> Subject:
    """The learner of one of `VARIANTS`."""
    fields = cases.fields_of(network, small=small, **VARIANTS[name])
    return subject(cases.config_of(fields))


def whole(found: Subject, state: TrainState) -> Clock:
    """A clock of the jitted step from a copy of `state` on."""
    step = jit(found.learning.step, donate_argnums=0)
    state, batches = copied(state), cycle(found)

    def call() -> Any:
        nonlocal state
        state, metrics = step(state, next(batches))
        return state, metrics

    return timed(call)


def cycle(found: Subject) -> Iterator[Any]:
    """Stream batches without end."""
    batches = arrivals(found, 8)
    while True:
        yield from batches


def apart(found: Subject, state: TrainState, repeats: int) -> dict[str, list[float]]:
    """Seconds of each part in each of `repeats` stream batches; consumes `state`."""
    cuts, batches = parts.cut(found), cycle(found)
    rounds = []
    for _ in range(repeats + 1):
        state, _, seconds = parts.walk(cuts, state, next(batches), found.config.passes)
        rounds.append(seconds)
    return {name: [r[name] for r in rounds[1:]] for name in parts.NAMES}


def rows(args: Any, names: tuple[str, ...]) -> list[Row]:
    """The whole steps, interleaved, and under each its parts."""
    subjects = {name: made(name, args.network, small=args.small) for name in names}
    states = {name: started(found) for name, found in subjects.items()}
    clocks = {name: whole(found, states[name]) for name, found in subjects.items()}
    spent = interleaved(clocks, args.repeats)
    er = statistics.median(spent["er"]) if "er" in spent else None
    found: list[Row] = []
    for name, seconds in spent.items():
        times = statistics.median(seconds) / er if er else None
        found.append(Row(name, seconds, more={"of_er": times}))
        if not args.whole:
            split = apart(subjects[name], states.pop(name), args.repeats)
            for part, each in split.items():
                found.append(Row(f"{name}: {part}", each))
    return found


def check(name: str, found: Subject) -> None:
    """Raise unless the parts come to the step's losses, over three stream batches."""
    step, cuts = jit(found.learning.step), parts.cut(found)
    one = started(found)
    other = copied(one)
    for batch in arrivals(found, 3):
        one, metrics = step(one, batch)
        seen = parts.walk(cuts, other, batch, found.config.passes)
        other = seen.state
        for term in seen.losses[0]:
            mean = np.mean([float(loss[term]) for loss in seen.losses])
            np.testing.assert_allclose(mean, metrics[f"loss_{term}"], atol=1e-3)
    print(f"{name}: the parts come to the losses of the step")


def main() -> None:
    """Parse the flags, measure, print."""
    parser = commandline.parser(__doc__, cases="the strategies", repeats=10)
    parser.add_argument("--network", default=NETWORK, choices=tuple(cases.CASES))
    parser.add_argument("--whole", action="store_true", help="leave the parts out")
    parser.add_argument("--check", action="store_true", help="compare, do not time")
    args = commandline.parsed(parser)
    names = commandline.chosen(parser, args.case, VARIANTS)
    if args.check:
        for name in names:
            check(name, made(name, args.network, small=args.small))
        return
    commandline.finish(args, jax.devices()[0].device_kind, rows(args, names))


if __name__ == "__main__":
    main()
