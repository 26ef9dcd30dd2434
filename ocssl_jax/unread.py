"""Words that nobody reads any more, or that are no text.

A reader may go long before a run ends: a connection breaks, `head` has seen enough.
What the run is worth lies in its files, so it goes on without words. And names of files
may be any bytes, or letters that the terminal's encoding lacks: these are escaped.
"""

import errno
import io
import os
import sys
from typing import Any, TextIO

GONE = (errno.EPIPE, errno.EIO)


class Unread:
    """A stream that stays quiet once its reader has gone."""

    def __init__(self, stream: TextIO):
        """`stream` is stdout or stderr."""
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's own."""
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, as long as somebody reads."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._mute(error)
            return len(text)

    def flush(self) -> None:
        """Hand on what is buffered, as long as somebody reads."""
        try:
            self._stream.flush()
        except OSError as error:
            self._mute(error)

    def _mute(self, error: OSError) -> None:
        """Send all further words nowhere; Python still flushes some as it ends."""
        if error.errno not in GONE:
            raise error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def outlive_readers() -> None:
    """Let this program end well whoever reads its stdout or stderr, and whatever."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # so is stderr from the start
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = Unread(sys.stdout), Unread(sys.stderr)
