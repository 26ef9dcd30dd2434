r"""Run a grid of settings and choose the best by validation accuracy.

  python -m ocssl_jax.sweep configs/quickstart.py \
      --grid optimizer.learning_rate=0.03,0.1,0.3 --grid strategy.align_weight=0.3,1,2

Arguments:
  CONFIG[:VARIANT]          experiment, a Python file
  --grid FIELD=V1,V2,...    values to try; repeat it for a full grid of several fields
  --config.FIELD=VALUE      change a field of every point, as launch.py does
  --workdir DIR             where results go (default runs/<config name>-sweep)
  --probe NAME              probe that chooses (default the config's first)
  --metric NAME[,NAME...]   test metrics shown beside (default FA,CA)
  --at_once N               points that learn side by side at most (default 0: all)

Each point is an ordinary run of all seeds in its own folder of DIR, without baselines
unless --config.baselines names some. The best point has the highest mean over seeds of
the final accuracy on the validation images, probed in the joint scope with all labels
where the config asks for that, else as it lists first; test accuracy has no say.
sweep.json and sweep.csv in DIR are kept up to date, sweep.log has what the runs say.

Points that differ in numbers alone, such as learning rates, weights and decays, share
what is compiled. On GPUs, TPUs and several devices they are an axis beside the seeds
and learn side by side, in one program; on one device of a CPU one after the other.

Repeat a command to resume where it was interrupted. With more values, or more fields,
it runs only what is new; a grid that lacks a point already run is refused. A point
whose loss is no longer finite, or that the device has no memory for, is recorded as
failed and the sweep goes on; delete its folder to try it again.
Config files are code and are run: use only files that you trust.
Exit code: 0 done, or stopped and saved; 2 wrong input; 1 training or disk failed.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import logging

from ocssl_jax import signals
from ocssl_jax.commandline import (
    Parser,
    default_workdir,
    ending,
    field_flags,
    own_configs_first,
    program,
)
from ocssl_jax.errors import UsageError
from ocssl_jax.metrics import ALL
from ocssl_jax.sweep import grid

PROGRAM = "ocssl_jax.sweep"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the sweep that the command line asks for."""
    parser = Parser(PROGRAM, __doc__)
    parser.add_argument("config")
    parser.add_argument("--grid", action="append", default=[])
    parser.add_argument("--workdir", type=Path)
    parser.add_argument("--probe")
    parser.add_argument("--metric", default="FA,CA")
    parser.add_argument("--at_once", type=int, default=0)
    args, rest = parser.parse_known_args(argv)
    own_configs_first()
    folder = args.workdir or default_workdir(args.config, "-sweep")
    with ending(PROGRAM, folder):
        metrics = tuple(name.strip() for name in args.metric.split(","))
        for name in metrics:
            if name not in ALL:
                raise UsageError(
                    f"--metric must be one of {', '.join(ALL)}, got {name!r}"
                )
        if args.at_once < 0:
            raise UsageError(f"--at_once must be 0 or more, got {args.at_once}")
        fixed = shared(rest)
        points = grid.points(args.config, fixed, grid.parse(args.grid))
        named = grid.placed(points, folder)
        # Imported here, for --help and wrong flags to be answered at once.
        from ocssl_jax.sweep import search
        from ocssl_jax.sweep.ledger import Plan

        # orbax tells of every file it writes, and of every error that it raises anyway.
        logging.set_verbosity(logging.FATAL)
        signals.interrupt()  # until a run listens
        probe = search.check(points, args.probe)
        plan = Plan(folder, args.config, fixed, named, probe, metrics, args.at_once)
        print(search.run(plan))


def shared(flags: Sequence[str]) -> tuple[str, ...]:
    """The `--config.FIELD=VALUE` flags of every point.

    Raises:
      UsageError: naming a flag that is none.
    """
    flags = field_flags(flags)
    if any(flag.startswith("--config.baselines=") for flag in flags):
        return flags
    # They have no say in the choice, and would be run again for every point.
    return (*flags, "--config.baselines=()")


if __name__ == "__main__":
    program(main)
