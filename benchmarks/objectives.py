"""Times what the objectives of continual CLIP cost: a step of each beside InfoNCE's.

  python -m benchmarks.objectives
  python -m benchmarks.objectives --case infonce,gcl --config.precision=bfloat16
  python -m benchmarks.objectives --network clip_vit_b16 --config.stream.batch_size=128

The learners are those of configs/clip_small.py with a small memory, images noise, one
seed; `gdro` has class-balanced batches. `of infonce` is a multiple of InfoNCE's time in
the same round, the median over rounds, and `model` the same of operations counted off
the steps' traces; both are there if InfoNCE is among the cases.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import commandline
from benchmarks.learners import Subject, subject
from benchmarks.memories import noise
from benchmarks.tables import Row
from benchmarks.timing import Clock, interleaved, timed
from configs import clip_small
from ocssl_jax import flops, settings
from ocssl_jax.backbones import BACKBONES
from ocssl_jax.compiling import jit, once
from ocssl_jax.core import Stream

CASES = ("ce_memory", "infonce", "gcl", "gdro")
CLASSES, NEW, IMAGES = 20, 10, 450  # met so far, of them new, images of each new one
NETWORK = "convnet"
SMALL = {"backbone.width": 4, "stream.batch_size": 16, "method.projection": 8}


def made(name: str, network: str, fields: dict[str, Any]) -> Subject:
    """The learner of one of `CASES`."""
    config = clip_small.get_config(name)
    config.method.pretrained = ""
    config.backbone.name = network
    config.update_from_flattened_dict(fields)
    return subject(
        settings.resolve(config, fields),
        class_names=tuple(f"number {i}" for i in range(CLASSES)),
        train_images=CLASSES * IMAGES,
    )


def arrivals(found: Subject, count: int) -> list[Stream]:
    """Stream batches of noise, of as many classes as a balanced one has."""
    rng, config = np.random.default_rng(1), found.config
    rows, kinds = config.stream.batch_size, config.stream.balanced or CLASSES
    pool = np.full(CLASSES, config.stream.memory / (CLASSES - NEW), np.float32)
    pool[-NEW:] = IMAGES
    return [
        Stream(
            image=jnp.asarray(noise(rng, rows)),
            id=jnp.asarray(rng.permutation(CLASSES * IMAGES)[:rows], jnp.int32),
            mask=jnp.ones(rows, bool),
            boundary=jnp.bool(False),
            label=jnp.asarray(
                rng.permutation(CLASSES)[:kinds][np.arange(rows) % kinds], jnp.int32
            ),
            pool=jnp.asarray(pool),
        )
        for _ in range(count)
    ]


def clock(found: Subject) -> Clock:
    """Of the jitted step, its state carried on."""
    batches = arrivals(found, 8)
    state = once(found.learning.init)(jax.random.key(0), batches[0])
    step, endless = jit(found.learning.step, donate_argnums=0), itertools.cycle(batches)

    def call() -> Any:
        nonlocal state
        state, metrics = step(state, next(endless))
        return state, metrics

    return timed(call)


def counted(found: Subject) -> float:
    """Operations of a stream batch."""
    batch = arrivals(found, 1)[0]
    state = jax.eval_shape(found.learning.init, jax.random.key(0), batch)
    return flops.count(found.learning.step, state, batch)


def rows(args: Any, names: tuple[str, ...], fields: dict[str, Any]) -> list[Row]:
    """A row a case, the cases having taken turns."""
    subjects = {name: made(name, args.network, fields) for name in names}
    clocks = {name: clock(found) for name, found in subjects.items()}
    spent = interleaved(clocks, args.repeats)
    model = {name: counted(found) for name, found in subjects.items()}

    def beside(name: str) -> dict[str, float]:
        if "infonce" not in names:
            return {}
        times = np.divide(spent[name], spent["infonce"])  # of one round
        return {
            "of_infonce": float(np.median(times)),
            "model": model[name] / model["infonce"],
        }

    return [Row(name, seconds, more=beside(name)) for name, seconds in spent.items()]


def main() -> None:
    """Parse the flags, measure, print."""
    parser = commandline.parser(__doc__, cases="the objectives", repeats=30)
    parser.add_argument("--network", default=NETWORK, choices=tuple(BACKBONES))
    args = commandline.parsed(parser, config=True)
    names = commandline.chosen(parser, args.case, CASES)
    typed = commandline.fields_of(parser, args, "configs/clip_small.py")
    with commandline.refusing():
        found = rows(args, names, (SMALL if args.small else {}) | typed)
    commandline.finish(args, jax.devices()[0].device_kind, found)


if __name__ == "__main__":
    main()
