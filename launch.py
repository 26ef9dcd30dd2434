"""Train one experiment of online continual self-supervised learning.

  python launch.py                                      quickstart on embedded digits
  python launch.py --config=configs/climb_cifar100.py:50 --workdir=runs/climb
  python launch.py --config=FILE --config.seeds=0,1,2 --config.strategy.name=er

Flags:
  --config=FILE[:VARIANT]   experiment, a Python file (default configs/quickstart.py)
  --config.FIELD=VALUE      change a field; configs/default.py lists and explains all
  --workdir=DIR             where results go (default runs/<config name>[-VARIANT])

Repeat a command to resume where it was interrupted, or to read its results again.
Config files are code and are run: use only files that you trust.
Exit code: 0 done, or stopped and saved; 2 wrong input; 1 training or disk failed.
"""

import runpy
import signal
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

HERE = Path(__file__).resolve().parent
DEFAULT = HERE / "configs" / "quickstart.py"
_CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where results go.")


def parse(argv: list[str]) -> list[str]:
    """Parse the flags and read the config; one line and exit code 2 if that fails."""
    if any(arg in ("--help", "-h", "-help") for arg in argv[1:]):
        print(__doc__.strip())
        sys.exit(0)
    try:
        ordered = in_order(argv)
        check_file(ordered[1].partition("=")[2])
        rest = flags.FLAGS(ordered)
        if len(rest) > 1:
            raise ValueError(f"unknown argument {rest[1]!r}; flags start with --")
        _ = _CONFIG.value.is_locked  # reads the file
    except (AttributeError, KeyError) as error:
        words = str(error.args[0]) if error.args else str(error)
        for noise in ("\\n", "\\", "'"):  # it is the text of another error
            words = words.replace(noise, " ")
        hint = " ".join(words.split()).strip('"')
        fail(f"the config has no field {hint}; configs/default.py lists every field")
    except (flags.Error, IndexError, TypeError, ValueError, OSError) as error:
        fail(" ".join(str(error).split()))
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


def check_file(name: str) -> None:
    """Raise unless the config file is there and gives a config.

    Raises:
      ValueError: naming the file, and what is wrong with it or which ones there are.
    """
    path, _, variant = name.partition(":")
    if not Path(path).is_file():
        own = sorted(f"configs/{path.name}" for path in HERE.glob("configs/*.py"))
        known = ", ".join(own)
        raise ValueError(f"config file {path!r} not found; the project's are {known}")
    try:
        get_config = runpy.run_path(path)["get_config"]
        found = get_config(variant) if variant else get_config()
    except Exception as error:  # the file is the user's code and may raise anything
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"config file {name} cannot be used ({why})") from error
    if not isinstance(found, ConfigDict):
        raise ValueError(f"config file {name}: get_config() must return a ConfigDict")


def fail(reason: str) -> None:
    """Say in one line what is wrong with the input, and leave."""
    print(f"launch.py: {reason}", file=sys.stderr)
    sys.exit(2)


def default_workdir() -> Path:
    """`runs/<config name>`, with the variant where there is one."""
    name, _, variant = config_flags.get_config_filename(
        flags.FLAGS["config"]
    ).partition(":")
    stem = Path(name).stem
    return Path("runs") / (f"{stem}-{variant}" if variant else stem)


def main(argv: list[str]) -> None:
    """Run the experiment."""
    del argv
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until a run listens
    # Imported here, for --help and wrong flags to be answered at once.
    from ocssl_jax import experiment, settings
    from ocssl_jax.errors import Interrupted, StorageError, TrainingError, UsageError

    # orbax tells of every file it writes, and of every error that it raises anyway.
    logging.set_verbosity(logging.FATAL)
    overrides = config_flags.get_override_values(flags.FLAGS["config"])
    folder = Path(_WORKDIR.value) if _WORKDIR.value else default_workdir()
    try:
        config = settings.resolve(_CONFIG.value, overrides)
        print(experiment.run(config, folder, overrides))
    except UsageError as error:
        fail(str(error))
    except Interrupted as error:
        print(f"{error}; repeat the command to go on")
    except KeyboardInterrupt:
        print("stopped before anything was learnt; repeat the command to go on")
    except (TrainingError, StorageError) as error:
        print(f"launch.py: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        why = f"{error.strerror or error}: {error.filename or folder}"
        print(f"launch.py: {why}; what was saved before is kept", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
