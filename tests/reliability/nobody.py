"""A user without rights: tests may well run as root, to whom nothing is forbidden."""

import contextlib
import os
import tempfile
from pathlib import Path

NOBODY = 65534  # a user who owns nothing


@contextlib.contextmanager
def as_nobody(folder: Path):
    """Run the body as a user with no rights but on `folder`."""
    if os.geteuid():
        yield  # the rights that are taken away below are missed by this user already
        return
    os.chmod(folder, 0o777)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextlib.contextmanager
def reachable():
    """A folder that every user can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        yield Path(place)
