"""A run: learn from the stream, probe, log, checkpoint; again where it was interrupted.

One class holds what changes while the run goes on. The order of things at the end of a
chunk decides what a kill may cost: the log is written, then the checkpoint; probes come
after the checkpoint of their experience, and their file is replaced in one go.

Several processes go through the same lines: what is asked of all seeds' states is done
by all of them, what is written or judged by the first.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ocssl_jax import encoders, hosts, seeds
from ocssl_jax.backbones import DENSE
from ocssl_jax.build import Experiment
from ocssl_jax.checkpoint import Checkpoints
from ocssl_jax.clock import Clock
from ocssl_jax.core import Stream, TrainState, Variables
from ocssl_jax.debug import Debug
from ocssl_jax.errors import StorageError
from ocssl_jax.faults import Fault, Standing
from ocssl_jax.feed import feed
from ocssl_jax.judging import Judge
from ocssl_jax.mesh import make_mesh
from ocssl_jax.progress import Progress
from ocssl_jax.stop import Stop
from ocssl_jax.writers import History, record

CHUNK = 50  # stream batches between host syncs on an accelerator


class Run:
    """One strategy on one stream, all seeds, in one workdir."""

    def __init__(self, experiment: Experiment, config: ConfigDict, folder: Path):
        """Start afresh, or from the newest checkpoint in `folder`."""
        self.experiment, self.config, self.folder = experiment, config, folder
        self.chunk = config.chunk or (1 if jax.default_backend() == "cpu" else CHUNK)
        self.debug = Debug(experiment.learning.step) if config.debug else None
        self.chunk = 1 if self.debug else self.chunk
        mesh = make_mesh(jax.devices(), seeds=len(config.seeds), **config.mesh)
        made = experiment.learning
        self.seeds, self.passing = (
            seeds.carrier(made.init, step, mesh, vmap=config.backbone.name in DENSE)
            for step in (made.step, made.passing)
        )
        self.clock, self.standing = Clock(), Standing(config.seeds)
        self._fed: dict[int, Stream] = {}  # read ahead, by first step
        self.step, self.trained = 0, 0  # stream batches; augmented images, all seeds
        which = experiment.schedules[0].experience
        last = np.flatnonzero(np.diff(which, append=-1))
        self.ends = {int(i) + 1: int(which[i]) for i in last}  # step -> experience
        self.total = len(which)
        self.passed = int(np.count_nonzero(which < config.stream.known))
        self.tasks = len(experiment.judged[1].val)  # that are probed
        rows = experiment.schedules[0].mask.sum(axis=1)  # the same for every seed
        self.met = np.concatenate([[0], np.cumsum(rows)])  # stream images by step
        self.states = self.initial()
        self.checkpoints = Checkpoints(
            folder / "checkpoints", keep=config.checkpoint.keep
        )
        if self.checkpoints.latest() is not None:
            self._restore()
        # The first process alone reads, judges and writes; see `hosts`.
        self.judge = Judge(experiment, config, folder) if hosts.leads() else None
        self.history: History | None = None
        hosts.led(self._open_files)

    def initial(self) -> Any:
        """All seeds' states before the first stream batch."""
        return self.seeds.init(self.config.seeds, self.feed(0, 1))

    def _restore(self) -> None:
        like = self.seeds.split(self.states)
        states, progress = self.checkpoints.restore(like)
        self.states = self.seeds.join(states)
        self.step = self.checkpoints.latest() or 0
        try:  # of older versions it lacks fields
            self.clock.add(progress.get("time", {}))
            self.trained = int(progress.get("trained", 0))
            self.standing.restore(progress.get("stopped", {}))
        except (TypeError, ValueError, AttributeError) as error:
            raise self.checkpoints.unfit(error) from error

    def _open_files(self) -> None:
        if not self.step and (self.folder / "metrics.jsonl").exists():
            print(f"{self.folder} holds no checkpoint: starting over")
        assert self.judge is not None
        self.judge.resume(
            [e for end, e in self.ends.items() if end < self.step],
            [e for end, e in self.ends.items() if end <= self.step],
        )
        board = self.config.log.tensorboard
        self.history = History(self.folder, step=self.step, tensorboard=board)

    def feed(self, first: int, stop: int) -> Stream:
        """The stream batches from `first` up to `stop`, of every seed."""
        e = self.experiment
        steps = range(first, stop)
        labelled = e.learning.method.head is not None
        return feed(e.dataset, e.schedules, steps, length=self.chunk, labelled=labelled)

    def learn(self, stop: Stop) -> dict[int, TrainState]:
        """Go through the stream; the final state of each seed that got to its end.

        Raises:
          Interrupted: after a SIGTERM or SIGINT, everything saved.
          TrainingError: if no seed is finite any more; the last checkpoint is good.
        """
        name = self.config.strategy.name
        with Progress(self, name) as progress:
            try:
                self._end_experience(progress, resumed=True)
                while self.step < self.total:
                    if self.step < self.passed:
                        self._pass_by()
                    else:
                        self._chunk(progress)
                    where = f"after stream batch {self.step} of {self.total}"
                    if stop.seen() or self._save_due():
                        self._save()
                        stop.check(where)  # here only: elsewhere this chunk were lost
                    self._end_experience(progress)
                    if self.step in self.ends:
                        stop.check(where)
            except BaseException:
                with suppress(StorageError):  # the error under way says more
                    self.checkpoints.close()
                raise
            finally:
                if self.history:
                    self.history.close()
        self.checkpoints.close()
        return self._going()

    def _going(self) -> dict[int, TrainState]:
        """The states of the seeds that go on."""
        pairs = zip(self.config.seeds, self.seeds.split(self.states), strict=True)
        return {seed: state for seed, state in pairs if self.standing.goes(seed)}

    def _logged(self, step: int) -> bool:
        return step % self.config.log.every == 0 or step == self.total

    def _save_due(self) -> bool:
        return self.step % self.config.checkpoint.every == 0 or self.step in self.ends

    def _save(self) -> None:
        states = self.seeds.split(self.states)
        progress = {
            "time": self.clock.read(),
            "trained": self.trained,
            "stopped": self.standing.as_json(),
        }
        self.checkpoints.save(self.step, states, progress)

    def _next_stop(self, step: int) -> int:
        """The step at which the host looks at results again after `step`."""
        every = self.config.checkpoint.every
        end = min(end for end in self.ends if end > step)
        return min(step + self.chunk, (step // every + 1) * every, end)

    def _pass_by(self) -> None:
        """Let memories and teachers see what was learnt before, up to the next stop."""
        first, stop = self.step, self._next_stop(self.step)
        with self.clock.part("train_s"):
            arrived = self.feed(first, stop)
            going = self.standing.mask
            self.states, _ = self.passing.learn(
                self.states, arrived, stop - first, going
            )
        self.step = stop

    def _chunk(self, progress: Progress) -> None:
        """Learn up to the next stop; the host waits once, for the metrics."""
        began, first = time.monotonic(), self.step
        stop = self._next_stop(first)
        with self.clock.part("train_s"):
            arrived = self._fed.pop(first, None) or self.feed(first, stop)
            if self.debug:
                self.debug.keep(self.seeds.split(self.states), arrived)
            self.states, seen = self.seeds.learn(
                self.states, arrived, stop - first, self.standing.mask
            )
            if stop < self.total:  # read ahead while the device is busy
                self._fed[stop] = self.feed(stop, self._next_stop(stop))
            seen = self.seeds.metrics(seen, stop - first)
        self.step = stop
        seconds = time.monotonic() - began
        found = self.standing.find(first, seen)
        if self.debug:
            found = self.debug.explained(found, self.config.seeds)
        self._stop_seeds(found, progress)
        seen = self.standing.shown(first, seen)
        rows = sum(int(m["rows"]) for per_seed in seen for m in per_seed if m)
        views = self.experiment.learning.method.views
        self.trained += rows * views * self.config.passes
        images = self.samples(stop) - self.samples(first)
        rate = images * len(self.standing.going) / max(seconds, 1e-9)
        for step, metrics in enumerate(seen, first + 1):
            if self.history and self._logged(step):
                line = record(step, self.samples(step), self.experience(step), metrics)
                self.history.append(line, images_per_s=rate)
        progress.moved(self, seen[-1], rate)

    def _stop_seeds(self, found: Mapping[int, Fault], progress: Progress) -> None:
        """End the part of seeds in this run; all of it if no seed is left."""
        for line in self.standing.stop(found, latest=self.checkpoints.latest()):
            progress.say(f"{self.config.strategy.name}: {line}")

    def samples(self, step: int) -> int:
        """Stream images that one seed has met by `step`."""
        return int(self.met[step])

    def experience(self, step: int) -> int:
        """The experience that stream batch `step`, from 1, is of."""
        return int(self.experiment.schedules[0].experience[step - 1])

    def _end_experience(self, progress: Progress, *, resumed: bool = False) -> None:
        """Keep and probe the encoders, if an experience ends here.

        What was done before a kill is not done again.
        """
        experience = self.ends.get(self.step)
        if experience is None:
            return
        states = self._going()

        def close() -> None:
            assert self.judge is not None
            if self.config.checkpoint.encoders:
                folder = encoders.after(self.folder, experience)
                encoders.keep(folder, self.encoders(states), missing_only=resumed)
            if self.judge.lacks(experience):
                progress.probing(self)
                self.judge.judge(self.encoders(states), experience)
                progress.probed(self, experience)

        def unjudged(seed: int) -> bool:
            return self.judge is not None and self.judge.lacks(experience, seed)

        with self.clock.part("probe_s"):
            hosts.led(close)
        # Read off the rows, as a run does that was killed after they were written.
        bad = Fault(self.step, "the encoder's features are not finite")
        lost = [s for s in states if hosts.decided(partial(unjudged, s))]
        self._stop_seeds(dict.fromkeys(lost, bad), progress)

    def encoders(
        self, states: Mapping[int, TrainState]
    ) -> Iterator[tuple[int, Variables]]:
        """Each seed and its encoder, the one that is probed."""
        made = self.experiment.learning
        return encoders.of(states, made.method, made.head)

    def probed_after(self) -> list[int]:
        """Experiences after which this run probes."""
        assert self.judge is not None
        return [e for e in self.ends.values() if self.judge.wants(e)]
