"""Times a stream batch of several seeds on one device, in each of their forms.

  python -m benchmarks.seeds --case convnet-20 --seeds 1,2,4,8,16
  python -m benchmarks.seeds --case resnet18-138 --forms loop,vmap,products --seeds 1,8

`in turn` calls the jitted step for each seed, as runs on one CPU device do. The others
are one program for a chunk of all seeds, as runs on accelerators use: `loop` goes over
seeds, which is what runs do where there are convolutions; `vmap`, which is for dense
networks, makes grouped convolutions of them; `products` is vmap with each convolution
as a matrix product over its windows, batched over seeds (`form` of
ocssl_jax/backbones/conv.py). CLIMB with full memories, in `--precision`. A line is the
time until every seed has learnt a stream batch, over a chunk of `--chunk`; `per seed`
divides it by their number and by the time of one seed in the first of `--forms`, so
below 1 they gain from each other.
"""

import argparse
import dataclasses
import statistics
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

from benchmarks import cases, commandline
from benchmarks.learners import Subject, arrivals, started, subject
from benchmarks.memories import copied
from benchmarks.tables import Row
from benchmarks.timing import Clock, interleaved, timed
from ocssl_jax import seeds
from ocssl_jax.backbones import conv
from ocssl_jax.core import TrainState
from ocssl_jax.mesh import make_mesh
from ocssl_jax.seeds import Carrier

FORMS = ("in turn", "loop", "vmap", "products")


def carried(found: Subject, form: str) -> Carrier:
    """Seeds in one of `FORMS`, all on the first device."""
    learning = found.learning
    if form == "in turn":
        return seeds.in_turn(learning.init, learning.step)
    mesh = make_mesh(jax.devices()[:1], seeds=1, seed=1, data=1)
    vmap = form != "loop"
    return seeds.on_mesh(learning.init, learning.step, mesh, vmap=vmap)


def convolutions(form: str) -> Any:
    """Within it convolutions are traced as `form` has them."""
    if form != "products":
        return nullcontext()
    return mock.patch.object(conv, "form", lambda dtype: "products")


def copies(state: TrainState, count: int) -> list[TrainState]:
    """As many states of their own, alike but for the keys of their future."""
    return [
        dataclasses.replace(copied(state), key=jax.random.fold_in(state.key, i))
        for i in range(count)
    ]


def clock(
    found: Subject, state: TrainState, form: str, count: int, chunk: int
) -> Clock:
    """A clock of a chunk for `count` seeds that start at `state`, by stream batch."""
    carrier = carried(found, form)
    states = carrier.join(copies(state, count))
    each = arrivals(found, chunk)
    feed = jax.device_get(
        jax.tree.map(lambda *x: jnp.stack([jnp.stack(x)] * count, axis=1), *each)
    )

    def call() -> Any:
        nonlocal states
        states, metrics = carrier.learn(states, feed, chunk, [True] * count)
        return states, metrics

    with convolutions(form):
        jax.block_until_ready(call())
    whole = timed(call)
    return lambda: whole() / chunk


def rows(case: str, forms: tuple[str, ...], args: Any) -> Iterator[Row]:
    """All forms of each number of seeds, the forms interleaved."""
    fields = cases.fields_of(case, small=args.small, precision=args.precision)
    found = subject(cases.config_of(fields))
    state, one = started(found), None
    for count in args.seeds:
        clocks = {form: clock(found, state, form, count, args.chunk) for form in forms}
        for form, seconds in interleaved(clocks, args.repeats).items():
            middle = statistics.median(seconds)
            if count == 1 and form == forms[0]:
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
    precisions = commandline.PRECISIONS
    parser.add_argument("--forms", default="", help="of how seeds go, commas")
    parser.add_argument("--precision", default=precisions[0], choices=precisions)
    parser.add_argument("--seeds", type=numbers, default=None, help="how many, commas")
    parser.add_argument("--chunk", type=commandline.positive, default=4, help="batches")
    args = commandline.parsed(parser)
    names = commandline.chosen(parser, args.case or "convnet-20", cases.CASES)
    forms = commandline.chosen(parser, args.forms, FORMS, flag="--forms")
    args.seeds = args.seeds or ((1, 2) if args.small else (1, 2, 4, 8, 16))
    found = [row for name in names for row in rows(name, forms, args)]
    commandline.finish(args, jax.devices()[0].device_kind, found)


if __name__ == "__main__":
    main()
