"""How a run may end other than well."""

from collections.abc import Iterable
from pathlib import Path


class UsageError(ValueError):
    """A config, data set or workdir that cannot be used; one line says what can."""


class TrainingError(RuntimeError):
    """Training broke down, by a loss that is not finite; one line says where."""


class StorageError(OSError):
    """A disk that is full or fails; one line says where and what is left."""


class Interrupted(Exception):
    """The run was asked to stop and has saved everything."""


def of_disk(error: OSError, folder: Path | None = None) -> StorageError:
    """What to say of an error of the operating system about a file, in `folder`."""
    if isinstance(error, StorageError):
        return error
    place = error.filename or folder
    words = f"{error.strerror or error}" + (f": {place}" if place else "")
    return StorageError(f"{words}; what was saved before is kept")


def one_of(what: str, name: object, allowed: Iterable[object]) -> None:
    """Raise unless `name` is among `allowed`, naming all of them.

    Raises:
      UsageError: "config.<what> must be one of a, b, c, got x".
    """
    options = tuple(allowed)
    if name not in options:
        listed = ", ".join(map(str, options))
        raise UsageError(f"config.{what} must be one of {listed}, got {name!r}")
