"""Ending when asked to, where everything is saved."""

import signal
import sys
from types import FrameType

from ocssl_jax.errors import Interrupted
from ocssl_jax.hosts import any_of


class Stop:
    """Remembers SIGTERM and SIGINT, so that the run can save before it goes."""

    asked = False

    def __enter__(self) -> "Stop":
        """Listen, instead of dying at once."""
        kinds = (signal.SIGTERM, signal.SIGINT)
        self._before = {kind: signal.signal(kind, self._ask) for kind in kinds}
        return self

    def _ask(self, kind: int, frame: FrameType | None) -> None:
        del kind, frame
        if not self.asked:
            print("stopping as soon as everything is saved", file=sys.stderr)
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

    def __exit__(self, *_: object) -> None:
        """Listen no more."""
        for kind, handler in self._before.items():
            signal.signal(kind, handler)
