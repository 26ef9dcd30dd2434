"""What a person watching a run sees: a bar in a terminal, calm lines in a file."""

import math
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from ocssl_jax.hosts import leads

if TYPE_CHECKING:
    from ocssl_jax.train import Run


MANY = 20_000  # images worth a line before they are encoded
QUIET = 30.0  # seconds between lines where there is no terminal


class Progress:
    """Progress through the stream, in stream images of all seeds together."""

    def __init__(self, run: "Run", name: str):
        """Show where `run` stands."""
        self._began, self._first = time.monotonic(), run.step
        self._compiled = False
        self._said = -math.inf
        self._seeds = len(run.config.seeds)
        self._bar = tqdm(
            total=run.course.samples(run.course.total) * self._seeds,
            initial=run.course.samples(run.step) * self._seeds,
            desc=f"{name:>8}",
            unit=" images",
            disable=not (sys.stderr.isatty() and leads()),
            smoothing=0.05,
            dynamic_ncols=True,
        )
        self._bar.set_postfix_str("compiling")
        if self._first:
            self.say(
                f"{name}: resumed at stream batch {run.step} of {run.course.total}"
            )

    def __enter__(self) -> "Progress":
        """Show the bar."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bar as it stands."""
        self._bar.close()

    def say(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        if not leads():
            return
        self._bar.write(line, file=sys.stdout)
        sys.stdout.flush()

    def moved(self, run: "Run", per_seed: Any, rate: float) -> None:
        """Say how far the stream has come."""
        loss = float(np.mean([m["loss"] for m in per_seed if m]))
        self._bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
        self._bar.update(run.course.samples(run.step) * self._seeds - self._bar.n)
        now = time.monotonic()
        if self._bar.disable and (
            run.step in run.course.ends or now > self._said + QUIET
        ):
            self._said, total = now, str(run.course.total)
            self.say(
                f"{run.name}: batch {run.step:>{len(total)}}/{total}  "
                f"loss {loss:.3f}  {self._pace(run, now, rate)}"
            )
        if not self._compiled:
            self._began, self._first, self._compiled = now, run.step, True

    def _pace(self, run: "Run", now: float, rate: float) -> str:
        """Speed and time to the end of the stream; of the first chunk what it took.

        Most of that is compiling, from which nothing follows for the others.
        """
        spent, interval = now - self._began, tqdm.format_interval
        if not self._compiled:
            return f"compiled and learnt in {interval(spent)}"
        left = spent / (run.step - self._first) * (run.course.total - run.step)
        return f"{rate:.1f} images/s  {interval(left)} left"

    def probing(self, run: "Run") -> None:
        """Say that the encoder is being judged, which can take a while."""
        judged = run.judge and run.judge.images
        if judged:
            images = sum(len(split.label) for split in judged[:3])
            self._bar.set_postfix_str(f"probing on {images:,} images")
            if self._bar.disable and images * self._seeds >= MANY:
                name, seeds = run.name, self._seeds
                self.say(f"{name}: probing, {seeds} x {images:,} images to encode")

    def probed(self, run: "Run", experience: int) -> None:
        """Say what the encoder is worth after an experience."""
        assert run.judge is not None
        means = {w.label: run.judge.mean(w.label, experience) for w in run.judge.ways}
        words = [f"{n} {mean:.2f} %" for n, mean in means.items() if not np.isnan(mean)]
        self.say(
            f"{run.name}: experience {experience + 1}"
            f"/{len(run.experiment.bench.test)}  {'  '.join(words)}"
        )
