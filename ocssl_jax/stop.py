"""Ending when asked to, where everything is saved."""

import signal
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

from ocssl_jax import signals
from ocssl_jax.errors import Interrupted
from ocssl_jax.hosts import any_of

T = TypeVar("T")


class Stop:
    """Remembers SIGTERM, SIGINT and SIGHUP, so that the run can save before it goes."""

    asked = False

    def __enter__(self) -> "Stop":
        """Listen, instead of dying at once."""
        self._before = {k: signal.signal(k, self._ask) for k in signals.kinds()}
        return self

    def _ask(self, kind: int, frame: FrameType | None) -> None:
        del kind, frame
        if not self.asked:
            signals.say("stopping as soon as everything is saved")
        self.asked = True

    def seen(self) -> bool:
        """Whether any process was asked to stop; a question that all of them ask."""
        self.asked = any_of(self.asked)
        return self.asked

    def check(self, where: str) -> None:
        """End the run here if it was asked to stop; call it where all is saved.

        Raises:
          Interrupted: saying where.
        """
        if self.seen():
            raise Interrupted(f"stopped {where}")

    def among(self, items: Iterable[T], where: str) -> Iterator[T]:
        """The items, each of which takes long and is lost if the run ends amid it.

        Asked by one process alone, which hears what it was asked itself.

        Raises:
          Interrupted: before the next item, if it was.
        """
        for item in items:
            if self.asked:
                raise Interrupted(f"stopped {where}")
            yield item

    def __exit__(self, *_: object) -> None:
        """Listen no more; a program that leaves since it was asked to need not."""
        for kind, handler in self._before.items():
            done = self.asked and handler is signals.interrupted
            signal.signal(kind, signal.SIG_IGN if done else handler)
