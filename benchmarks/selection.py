"""Times what choosing rows costs: RALS beside a plain step on as many rows.

  python -m benchmarks.selection
  python -m benchmarks.selection --case plain,rals --config.backbone.name=slim_resnet18

The learners are those of configs/speed_small.py, memories full, images noise, one seed:
`plain`, `random` and `rals` train on as many rows a pass, `all` on half as many again.
`of plain` is a multiple of plain's time if that is among the cases, `model` the same of
operations counted off the steps' traces.
"""

import statistics
from typing import Any

import jax
import numpy as np

from benchmarks import commandline
from benchmarks.learners import Subject, arrivals, started, subject
from benchmarks.step import whole
from benchmarks.tables import Row
from benchmarks.timing import interleaved
from configs import speed_small
from ocssl_jax import flops, settings

CASES = ("plain", "random", "all", "rals")
STEPS = 10
SMALL = {"passes": 3, "backbone.width": 4, "stream.batch_size": 4}


def made(name: str, fields: dict[str, Any]) -> Subject:
    """The learner of one of `CASES`."""
    config = speed_small.get_config(f"{name}-cycle-{STEPS}")
    replayed = config.strategy.replay_size // config.stream.batch_size
    config.update_from_flattened_dict(fields)
    if "strategy.replay_size" not in fields:
        config.strategy.replay_size = replayed * config.stream.batch_size
    return subject(settings.resolve(config, fields))


def counted(found: Subject) -> float:
    """Operations of a stream batch."""
    batch = arrivals(found, 1)[0]
    state = jax.eval_shape(found.learning.init, jax.random.key(0), batch)
    return flops.count(found.learning.step, state, batch)


def rows(names: tuple[str, ...], fields: dict[str, Any], repeats: int) -> list[Row]:
    """A row a case, the cases having taken turns."""
    subjects = {name: made(name, fields) for name in names}
    clocks = {name: whole(found, started(found)) for name, found in subjects.items()}
    spent = interleaved(clocks, repeats)
    model = {name: counted(found) for name, found in subjects.items()}
    plain = statistics.median(spent["plain"]) if "plain" in names else np.nan
    return [
        Row(
            name,
            seconds,
            more={
                "of_plain": statistics.median(seconds) / plain,
                "model": model[name] / model.get("plain", np.nan),
            },
        )
        for name, seconds in spent.items()
    ]


def main() -> None:
    """Parse the flags, measure, print."""
    parser = commandline.parser(__doc__, cases="the selections", repeats=10)
    args = commandline.parsed(parser, config=True)
    names = commandline.chosen(parser, args.case, CASES)
    typed = commandline.fields_of(parser, args, "configs/speed_small.py")
    with commandline.refusing():
        found = rows(names, (SMALL if args.small else {}) | typed, args.repeats)
    commandline.finish(args, jax.devices()[0].device_kind, found)


if __name__ == "__main__":
    main()
