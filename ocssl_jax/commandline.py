"""What the commands share: configs with fields changed by flags, one-line endings."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from absl import flags
from ml_collections import ConfigDict, config_flags

from ocssl_jax import config_files, signals
from ocssl_jax.errors import (
    Interrupted,
    StorageError,
    TrainingError,
    UsageError,
    of_disk,
)
from ocssl_jax.unread import outlive_readers

FAILED = 1  # exit code where training, memory or disk failed
FULL = "RESOURCE_EXHAUSTED"  # what JAX says of a device without free memory
TOO_LARGE = (
    "the memory is too small for this run: a smaller stream.batch_size, "
    "strategy.replay_size, strategy.memory_size or backbone helps"
)
WRONG = (flags.Error, IndexError, KeyError, AttributeError, TypeError, ValueError)


class Parser(argparse.ArgumentParser):
    """Flags of a command; its module's docstring is the help, a refusal one line."""

    def __init__(self, prog: str, text: str):
        """A parser that answers `--help` with `text`."""
        super().__init__(prog, allow_abbrev=False)
        self.text = text.strip()

    def format_help(self) -> str:
        """What `--help` prints."""
        return self.text + "\n"

    def error(self, message: str) -> NoReturn:
        """Refuse a command line."""
        fail(self.prog, message)


def fail(program: str, reason: str) -> NoReturn:
    """Say in one line what is wrong with the input, and leave with exit code 2."""
    leave(2, program, reason)


def leave(code: int, program: str, reason: str) -> NoReturn:
    """Say in one line, whatever is quoted in it, why the program ends, and leave."""
    print(f"{program}: {' '.join(reason.split())}", file=sys.stderr)
    sys.exit(code)


def program(main: Callable[[], object]) -> NoReturn:
    """Run a command as a process of its own: its last words, its exit code.

    Until `main` calls `signals.interrupt` or listens itself, a signal ends it at once.
    """
    signals.end_at_once()
    outlive_readers()
    sys.unraisablehook = _unraisable
    try:
        main()
    except SystemExit as left:
        if left.code == FAILED:
            _leave_at_once(FAILED)
        raise
    finally:
        signals.ignore()
    sys.exit(0)


def _leave_at_once(code: int) -> NoReturn:
    """Exit without waiting for threads: one may wait for a save that has failed."""
    if "jax" in sys.modules:  # else there is nobody to part from, and JAX is slow
        from ocssl_jax import hosts

        hosts.part()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _unraisable(told: Any) -> None:
    """Print what could not be raised, as Python does.

    Without what threads of the storage library say of files that a failed checkpoint
    has not waited for: that failure is told in one line already.
    """
    if str(told.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(told)


@contextmanager
def ending(program: str, folder: Path) -> Iterator[None]:
    """Say in one line how the body ended where it did not end well, and leave.

    Exit code 0: stopped and saved; 2: wrong input; 1: training or disk failed.
    """
    try:
        yield
    except UsageError as error:
        fail(program, str(error))
    except Interrupted as error:
        print(f"{error}; repeat the command to go on")
    except KeyboardInterrupt:
        print(signals.UNSAVED)
    except (TrainingError, StorageError) as error:
        leave(FAILED, program, str(error))
    except OSError as error:
        leave(FAILED, program, str(of_disk(error, folder)))
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and FULL not in str(error):
            raise
        leave(FAILED, program, f"{TOO_LARGE}; what was saved before is kept")


def configured(arguments: Sequence[str]) -> tuple[ConfigDict, dict[str, Any]]:
    """The config that launch.py would read, and the fields set by flags.

    Args:
      arguments: `--config=FILE[:VARIANT]` first, then `--config.FIELD=VALUE` each.

    Raises:
      UsageError: if launch.py would refuse them.
    """
    argv = ["", *arguments]
    values = flags.FlagValues()  # its own: the fields' flags are made as it is parsed
    held = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    try:
        config_files.check_flags(
            arguments, config_files.read(arguments[0].partition("=")[2])
        )
        values(argv)
        return held.value, config_flags.get_override_values(values["config"])
    except WRONG as error:
        raise UsageError(" ".join(str(error).split())) from error


def field_flags(rest: Sequence[str]) -> tuple[str, ...]:
    """What a command's own parser left, which must be `--config.FIELD=VALUE` each.

    Raises:
      UsageError: naming a flag that is none.
    """
    for flag in rest:
        if not flag.startswith("--config.") or "=" not in flag:
            raise UsageError(
                f"unknown argument {flag!r}; fields are set by --config.FIELD=VALUE"
            )
    return tuple(rest)


def own_configs_first() -> None:
    """Let config files import the project's configs/, as launch.py does.

    Not one of the current folder, which -m has put first.
    """
    here = ("", str(Path.cwd()))
    sys.path[:] = [str(config_files.ROOT), *sys.path[sys.path[0] in here :]]


def default_workdir(source: str, suffix: str = "") -> Path:
    """`runs/<config name>` of FILE[:VARIANT], with the variant where there is one."""
    name, _, variant = source.partition(":")
    stem = Path(name).stem
    return Path("runs") / ((f"{stem}-{variant}" if variant else stem) + suffix)
