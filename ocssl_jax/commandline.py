"""What the commands share: configs with fields changed by flags, one-line endings."""

import argparse
import keyword
import os
import re
import runpy
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from absl import flags
from ml_collections import ConfigDict, config_flags

from ocssl_jax import signals
from ocssl_jax.errors import (
    Interrupted,
    StorageError,
    TrainingError,
    UsageError,
    of_disk,
)
from ocssl_jax.unread import outlive_readers

ROOT = Path(__file__).resolve().parents[1]  # the checkout, with launch.py and configs/
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


def why(error: BaseException) -> str:
    """One line of words for what reading flags and config raised, one of `WRONG`."""
    if not isinstance(error, AttributeError | KeyError):
        return " ".join(str(error).split())
    words = str(error.args[0]) if error.args else str(error)
    for noise in ("\\n", "\\", "'"):  # it is the text of another error
        words = words.replace(noise, " ")
    hint = " ".join(words.split()).strip('"')
    return f"the config has no field {hint}; configs/default.py lists every field"


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
        check_file(arguments[0].partition("=")[2])
        check_fields(arguments)
        values(argv)
        return held.value, config_flags.get_override_values(values["config"])
    except WRONG as error:
        raise UsageError(why(error)) from error


def check_fields(arguments: Iterable[str]) -> None:
    """Raise unless every `--config.FIELD=VALUE` names a field as one is written.

    Raises:
      ValueError: quoting the first that does not; its parser would answer in riddles.
    """
    for argument in arguments:
        name = argument.lstrip("-").partition("=")[0]
        if not (argument.startswith("-") and name.startswith("config.")):
            continue
        written = re.fullmatch(r"config(\.[^\W\d]\w*(\[\d+\])*)+", name)
        if not written or any(map(keyword.iskeyword, name.split("."))):
            raise ValueError(
                f"--{name} names no field; one is written --config.stream.tasks=5"
            )


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
    sys.path[:] = [str(ROOT), *sys.path[sys.path[0] in here :]]


def check_file(name: str) -> None:
    """Raise unless the config file is there and gives a config.

    Raises:
      ValueError: naming the file, and what is wrong with it or which ones there are.
    """
    path, _, variant = name.partition(":")
    if not Path(path).is_file():
        own = sorted(f"configs/{path.name}" for path in ROOT.glob("configs/*.py"))
        known = ", ".join(own)
        raise ValueError(f"config file {path!r} not found; the project's are {known}")
    try:
        get_config = runpy.run_path(path)["get_config"]
        found = get_config(variant) if variant else get_config()
    except Exception as error:  # the file is the user's code and may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"config file {name} cannot be used ({reason})") from error
    if not isinstance(found, ConfigDict):
        raise ValueError(f"config file {name}: get_config() must return a ConfigDict")


def default_workdir(source: str, suffix: str = "") -> Path:
    """`runs/<config name>` of FILE[:VARIANT], with the variant where there is one."""
    name, _, variant = source.partition(":")
    stem = Path(name).stem
    return Path("runs") / ((f"{stem}-{variant}" if variant else stem) + suffix)
