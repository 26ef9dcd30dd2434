"""What a whole run broke down of, told in its workdir until it goes on.

A run some of whose seeds stopped tells of them in `summary.json`. One that has no seed
left gets no summary: without `failed.json` it would look like one that was interrupted.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ocssl_jax.errors import TrainingError
from ocssl_jax.workdir import identity, read_json, write

FILE = "failed.json"


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Write why the run in `folder` broke down, if the body does; raise it on."""
    from ocssl_jax import hosts  # here: who only reads a workdir needs no JAX

    place = identity(folder)
    try:
        yield
    except TrainingError as error:
        # Not into what took the place of a folder that was moved meanwhile; and an
        # error of the disk would say less than the one under way.
        if hosts.leads() and identity(folder) == place:
            with suppress(OSError):
                text = json.dumps({"reason": str(error)}, indent=1) + "\n"
                write(folder / FILE, text)
        raise


def forget(folder: Path) -> None:
    """Remove what was written: a run that goes on is unfinished, not broken."""
    (folder / FILE).unlink(missing_ok=True)


def reason(folder: Path) -> str:
    """Why the run in `folder` broke down; '' of one that did not.

    Raises:
      UsageError: if the file is damaged.
    """
    path = folder / FILE
    return str(read_json(path, needs="reason")["reason"]) if path.exists() else ""


@contextmanager
def named(what: str) -> Iterator[None]:
    """Say of which part of a run it is, if the body breaks down."""
    try:
        yield
    except TrainingError as error:
        raise TrainingError(f"{what}: {error}") from error
