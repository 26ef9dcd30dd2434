"""Learn from a folder of pictures that grows while you learn from it.

  python -m ocssl_jax.follow ~/camera --workdir runs/camera
  python -m ocssl_jax.follow ~/camera --workdir runs/camera --config.stream.quiet=600

Arguments:
  FOLDER                    pictures, in it and in all folders below it
  --workdir DIR             where results go (default runs/<config name>)
  --config FILE[:VARIANT]   how to learn (default configs/folder.py)
  --config.FIELD=VALUE      change a field, as launch.py does

Each file is learnt once, in the order of arrival, a stream batch at a time; what is
still being written is waited for. It ends stream.quiet seconds after the last new
picture (0: never), with the rest that makes no whole batch, or when asked to: Ctrl-C
and SIGTERM save. Repeat the command to go on: no file is learnt twice or lost, even
after kill -9. A file is known by its path below FOLDER: renamed or moved it is learnt
again, changed under its name it is not. Broken ones are named and left out until they
change.

DIR holds seen.jsonl (which files each stream batch was of), metrics.jsonl, checkpoints/
and, from the first checkpoint on, encoder/ for ocssl_jax.embed and ocssl_jax.export.
Config files are code and are run: use only files that you trust.
Exit code: 0 done, or stopped and saved; 2 wrong input; 1 training or disk failed.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import logging

from ocssl_jax import signals
from ocssl_jax.commandline import (
    Parser,
    configured,
    default_workdir,
    ending,
    field_flags,
    own_configs_first,
    program,
)
from ocssl_jax.config_files import ROOT

PROGRAM = "ocssl_jax.follow"


def main(argv: Sequence[str] | None = None) -> None:
    """Follow the folder that the command line names."""
    parser = Parser(PROGRAM, __doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--config", default=str(ROOT / "configs" / "folder.py"))
    parser.add_argument("--workdir", type=Path)
    given, rest = parser.parse_known_args(argv)
    own_configs_first()
    place = given.workdir or default_workdir(given.config)
    with ending(PROGRAM, place):
        config, overrides = configured([f"--config={given.config}", *field_flags(rest)])
        # Imported here, for --help and wrong flags to be answered at once.
        from ocssl_jax.following import follow

        # orbax tells of every file it writes, and of every error that it raises anyway.
        logging.set_verbosity(logging.FATAL)
        signals.interrupt()  # until somebody listens
        print(follow(config, given.folder, place, overrides))


if __name__ == "__main__":
    program(main)
