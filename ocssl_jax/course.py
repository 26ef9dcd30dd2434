"""The course of a run: what happens at which stream batch, known before it begins."""

import numpy as np
from ml_collections import ConfigDict

from ocssl_jax.data.arrivals import Schedule


class Course:
    """Stream batches are counted from 1; 0 is the start."""

    def __init__(self, schedule: Schedule, config: ConfigDict, *, chunk: int):
        """Lay it out.

        Args:
          schedule: of any seed, since all have as many of everything.
          config: of the run.
          chunk: stream batches at most between looks at results.
        """
        self._which = which = schedule.experience
        last = np.flatnonzero(np.diff(which, append=-1))
        self.total = len(which)  # stream batches
        self.ends = {int(i) + 1: int(which[i]) for i in last}  # batch -> experience
        self.passed = int(np.count_nonzero(which < config.stream.known))
        self._met = np.concatenate([[0], np.cumsum(schedule.mask.sum(axis=1))])
        self._log, self._save = config.log.every, config.checkpoint.every
        self._chunk = chunk

    def samples(self, step: int) -> int:
        """Stream images that one seed has met by `step`."""
        return int(self._met[step])

    def experience(self, step: int) -> int:
        """The experience that stream batch `step` is of."""
        return int(self._which[step - 1])

    def logged(self, step: int) -> bool:
        """Whether the log has a line about a stream batch, if it is trained on."""
        return step % self._log == 0 or step == self.total

    def lines(self, step: int) -> int:
        """Lines of the log of a run that stands at `step`."""
        return sum(map(self.logged, range(self.passed + 1, step + 1)))

    def saved(self, step: int) -> bool:
        """Whether a checkpoint is due."""
        return step % self._save == 0 or step in self.ends

    def next_stop(self, step: int) -> int:
        """The stream batch at which the host looks at results again after `step`."""
        end = min(end for end in self.ends if end > step)
        return min(step + self._chunk, (step // self._save + 1) * self._save, end)
