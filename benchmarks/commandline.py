"""Flags that the benchmarks share, and how each of them ends."""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from benchmarks import machine, tables
from benchmarks.tables import Row
from ocssl_jax.commandline import configured
from ocssl_jax.config_files import ROOT
from ocssl_jax.errors import UsageError

PRECISIONS = ("float32", "bfloat16")
NO_TORCH = "torch is not installed; pip install -e '.[bench]' brings it"


class Parser(argparse.ArgumentParser):
    """Refuses a command line in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with it, and leave."""
        fail(message)


def parser(text: str, *, cases: str = "", repeats: int = 0) -> argparse.ArgumentParser:
    """A parser with `--case`, `--repeats`, `--small` and `--json`.

    Args:
      text: the module's docstring.
      cases: what `--case` chooses among, in words; there is none without.
      repeats: default of that flag; there is none without.
    """
    made = Parser(
        prog=f"python -m benchmarks.{machine.program()}",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if cases:
        made.add_argument("--case", default="", help=f"of {cases}, commas; default all")
    if repeats:
        made.add_argument(
            "--repeats", type=positive, default=repeats, help="timed rounds"
        )
    made.add_argument("--small", action="store_true", help="tiny sizes: does it run?")
    made.add_argument("--json", type=Path, help="file to write the results to")
    return made


def add_sides(made: argparse.ArgumentParser) -> None:
    """The flags of a comparison: `--threads` and `--device`."""
    most = machine.cores()
    made.add_argument(
        "--threads",
        type=lambda word: min(positive(word), most),
        default=most,
        help="of each side, at most the cores there are",
    )
    made.add_argument("--device", choices=("auto", "cpu"), default="auto")


def parsed(
    made: argparse.ArgumentParser, *, config: bool = False
) -> argparse.Namespace:
    """The flags; with `--small` XLA optimises little, here and in other processes.

    `config` admits `--config.FIELD=VALUE` too, as launch.py does, in `args.fields`.
    """
    args, fields = made.parse_known_args()
    args.fields = fields
    for word in fields:
        if not config or not word.startswith("--config."):
            made.error(f"unknown argument {word!r}")
    if args.small:
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
        if jax := sys.modules.get("jax"):
            jax.config.update("jax_disable_most_optimizations", True)
    return args


def fields_of(
    made: argparse.ArgumentParser, args: argparse.Namespace, source: str
) -> dict[str, Any]:
    """The fields of the config `source` that the flags give, as launch.py reads them.

    Leaves with code 2 at one that it would refuse.
    """
    try:
        return configured([f"--config={ROOT / source}", *args.fields])[1]
    except UsageError as error:
        made.error(str(error))


@contextmanager
def refusing() -> Iterator[None]:
    """Leave with code 2 and one line where the library refuses what it was given."""
    try:
        yield
    except UsageError as error:
        fail(str(error))


def positive(word: str) -> int:
    """A flag's whole number, 1 or more."""
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def chosen(
    made: argparse.ArgumentParser,
    words: str,
    known: Iterable[str],
    *,
    flag: str = "--case",
) -> tuple[str, ...]:
    """The names that `flag` gives, or all; leaves with code 2 at an unknown one."""
    known = tuple(known)
    names = tuple(part.strip() for part in words.split(",") if part.strip())
    for name in names:
        if name not in known:
            made.error(f"{flag} must be among {', '.join(known)}, got {name!r}")
    return names or known


def has_torch() -> bool:
    """Whether there is something to compare with."""
    return find_spec("torch") is not None


def finish(args: Any, device: str, rows: Sequence[Row]) -> None:
    """Print the table and, if asked for, write the JSON."""
    found = machine.describe(device)
    print(machine.in_words(found), tables.text(rows), sep="\n\n")
    if args.json:
        tables.write(args.json, found, rows)


def fail(reason: str) -> NoReturn:
    """Say in one line why nothing can be measured, and leave with code 2."""
    print(f"benchmarks.{machine.program()}: {reason}", file=sys.stderr)
    sys.exit(2)
