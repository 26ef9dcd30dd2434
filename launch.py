"""Train one experiment of online continual self-supervised learning.

  python launch.py                                      quickstart on embedded digits
  python launch.py --config=configs/climb_cifar100.py:50 --workdir=runs/climb
  python launch.py --config=FILE --config.seeds=0,1,2 --config.strategy.name=er

Flags:
  --config=FILE[:VARIANT]   experiment, a Python file (default configs/quickstart.py)
  --config.FIELD=VALUE      change a field; configs/default.py lists and explains all
  --workdir=DIR             where results go (default runs/<config name>[-VARIANT])
Several hosts, one process each, the same command on all and a workdir that all see:
  --distributed             where JAX knows the cluster: TPU pods, SLURM, MPI
  --coordinator=HOST:PORT --processes=N --process=I   elsewhere; I from 0, HOST is 0's

Repeat a command to resume where it was interrupted, or to read its results again.
Config files are code and are run: use only files that you trust.
Exit code: 0 done, or stopped and saved; 2 wrong input; 1 training or disk failed.
"""

import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from ocssl_jax import signals
from ocssl_jax.commandline import (
    WRONG,
    default_workdir,
    ending,
    fail,
    program,
)
from ocssl_jax.config_files import check_flags, read

DEFAULT = Path(__file__).resolve().parent / "configs" / "quickstart.py"
_CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where results go.")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Join the cluster's processes.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "Address of process 0.")
_PROCESSES = flags.DEFINE_integer("processes", None, "How many there are.", 1)
_PROCESS = flags.DEFINE_integer("process", None, "Which one this is.", 0)


def parse(argv: list[str]) -> list[str]:
    """Parse the flags and read the config; one line and exit code 2 if that fails."""
    if any(arg in ("--help", "-h", "-help") for arg in argv[1:]):
        print(__doc__.strip())
        sys.exit(0)
    try:
        ordered = in_order(argv)
        check_flags(ordered, read(ordered[1].partition("=")[2]))
        rest = flags.FLAGS(ordered)
        if len(rest) > 1:
            raise ValueError(f"unknown argument {rest[1]!r}; flags start with --")
        _ = _CONFIG.value.is_locked  # reads the file
    except (*WRONG, OSError) as error:
        fail("launch.py", str(error))
    return rest


def in_order(argv: list[str]) -> list[str]:
    """The config's file before its fields, as absl wants it; the default if none."""
    rest = argv[1:]
    for i, arg in enumerate(rest):
        if arg.lstrip("-") == "config" and i + 1 < len(rest):
            rest[i : i + 2] = [f"--config={rest[i + 1]}"]
            break
    first = [a for a in rest if a.lstrip("-").startswith("config=")]
    others = [a for a in rest if a not in first]
    return [argv[0], *(first or [f"--config={DEFAULT}"]), *others]


def main(argv: list[str]) -> None:
    """Run the experiment."""
    del argv
    # Imported here, for --help and wrong flags to be answered at once.
    from ocssl_jax import experiment, hosts, settings

    # orbax tells of every file it writes, and of every error that it raises anyway.
    logging.set_verbosity(logging.FATAL)
    flag = flags.FLAGS["config"]
    overrides = config_flags.get_override_values(flag)
    source = config_flags.get_config_filename(flag)
    folder = Path(_WORKDIR.value) if _WORKDIR.value else default_workdir(source)
    with ending("launch.py", folder):
        signals.interrupt()  # until a run listens
        config = settings.resolve(_CONFIG.value, overrides)
        if _DISTRIBUTED.value or _COORDINATOR.value:
            hosts.join(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        table = experiment.run(config, folder, overrides)
        if hosts.leads():
            print(table)


if __name__ == "__main__":
    program(lambda: app.run(main, flags_parser=parse))
