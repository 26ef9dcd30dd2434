"""Signals that ask a program to end, outside the part of it that has to save.

Where something has to be saved `stop.Stop` hears them. Before that they end the program
at once, or interrupt what it reads; afterwards it is on its way out, and they must not
change the exit code that says how it went.
"""

import os
import signal
from contextlib import suppress
from types import FrameType
from typing import NoReturn

KINDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
UNSAVED = "stopped with nothing new to save; repeat the command to go on"


def kinds() -> list[signal.Signals]:
    """Those to hear: of a program started by nohup SIGHUP stays ignored."""
    hung_up = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [kind for kind in KINDS if not (hung_up and kind == signal.SIGHUP)]


def say(line: str) -> None:
    """Write a line to stderr, as a handler may: buffers could be in use just then."""
    with suppress(OSError):  # a terminal that has gone, which is what is being told
        os.write(2, f"{line}\n".encode())


def end_at_once() -> None:
    """Let a signal end this program, with one line and exit code 0."""
    for kind in kinds():
        signal.signal(kind, _end)


def interrupt() -> None:
    """From now on raise KeyboardInterrupt, for what is half-done to be cleaned up.

    Only in a program that `end_at_once` was called in: who calls a command's `main`
    from elsewhere has handlers of their own.
    """
    for kind in KINDS:
        if signal.getsignal(kind) is _end:
            signal.signal(kind, interrupted)


def ignore() -> None:
    """Let no signal disturb this program on its way out."""
    for kind in kinds():
        signal.signal(kind, signal.SIG_IGN)


def interrupted(kind: int, frame: FrameType | None) -> NoReturn:
    """Handle the first signal; whoever is asked to leave need not be asked again."""
    del kind, frame
    ignore()
    raise KeyboardInterrupt


def _end(kind: int, frame: FrameType | None) -> NoReturn:
    """Leave without unwinding: in the middle of an import nothing may be called."""
    del kind, frame
    say(UNSAVED)
    os._exit(0)
