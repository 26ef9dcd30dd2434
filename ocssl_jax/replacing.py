"""Files that take an earlier one's place in one go, and nothing half-written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ocssl_jax.errors import UsageError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` once the body has written all of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(path)
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        with suppress(OSError):  # the error under way says more
            draft.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # or a power cut could bring the old file back
    finally:
        os.close(folder)


def draft_of(path: Path) -> Path:
    """Where a file is written before it takes its place."""
    return path.with_name(path.name + ".draft")


def check(path: Path, what: str) -> None:
    """Refuse a file that could not be written, by trying; nothing is left of the trial.

    Args:
      path: of the file, for `replacing`.
      what: the flag that names it, for errors.

    Raises:
      UsageError: saying why.
    """
    absent: list[Path] = []
    try:
        absent += [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        draft_of(path).open("wb").close()
        draft_of(path).unlink()
        if path.is_dir():
            raise UsageError(f"{what} {path} is a folder, a file is needed")
    except OSError as error:
        # What mkdir says of a file that lies where a folder is needed.
        file = isinstance(error, FileExistsError)
        why = f"{path.parent} is a file" if file else error.strerror
        raise UsageError(f"{what} {path} cannot be written ({why})") from error
    finally:
        for folder in absent:
            with suppress(OSError):
                folder.rmdir()
