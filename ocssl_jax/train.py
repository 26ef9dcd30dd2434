"""A run: learn from the stream, probe, log, checkpoint; again where it was interrupted.

What is to be computed it asks for, as `seeds.Work`; by itself it goes on at once.
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
from ml_collections import ConfigDict

from ocssl_jax import dotted, encoders, failed, hosts, labels, seeds
from ocssl_jax.boards import boards
from ocssl_jax.build import Experiment
from ocssl_jax.checkpoint import Checkpoints
from ocssl_jax.clock import Clock
from ocssl_jax.core import Stream, TrainState, Variables
from ocssl_jax.course import Course
from ocssl_jax.debug import Debug
from ocssl_jax.errors import Interrupted, StorageError
from ocssl_jax.faults import Fault, Standing
from ocssl_jax.feed import feed
from ocssl_jax.judging import Judge
from ocssl_jax.mesh import make_mesh
from ocssl_jax.progress import Progress
from ocssl_jax.seeds import Carrier, Carriers, Work, Working, alone
from ocssl_jax.stop import Stop
from ocssl_jax.workdir import Place
from ocssl_jax.writers import History

CHUNK = 50  # stream batches between host syncs on an accelerator


class Run:
    """One strategy on one stream, all seeds, in one workdir."""

    def __init__(
        self,
        experiment: Experiment,
        config: ConfigDict,
        folder: Path,
        *,
        carriers: Carriers | None = None,
        name: str = "",
    ):
        """Start afresh, or from the newest checkpoint in `folder`.

        Args:
          experiment: of the config.
          config: resolved.
          folder: the workdir.
          carriers: of seeds through batches to learn, and to pass by; by default its
            own.
          name: in what is printed; by default the learner's.
        """
        self.experiment, self.config, self.folder = experiment, config, folder
        self.name = name or labels.learner(partial(dotted.get, config))
        self.chunk = config.chunk or (1 if jax.default_backend() == "cpu" else CHUNK)
        self.debug = Debug(experiment.learning.step) if config.debug else None
        self.chunk = 1 if self.debug else self.chunk
        mesh = make_mesh(jax.devices(), seeds=len(config.seeds), **config.mesh)
        own = carriers or seeds.carriers(experiment.learning, mesh)
        self.seeds, self.passing = own.learning, own.passing
        self.clock, self.standing = Clock(), Standing(config.seeds)
        self._fed: dict[int, Stream] = {}  # read ahead, by first step
        self.step, self.trained = 0, 0  # stream batches; augmented images, all seeds
        self.course = Course(experiment.schedules[0], config, chunk=self.chunk)
        self.tasks = len(experiment.judged[1].val)  # that are probed
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
            [e for end, e in self.course.ends.items() if end < self.step],
            [e for end, e in self.course.ends.items() if end <= self.step],
        )
        shown = boards(self.folder, self.config, step=self.step)
        self.history = History(self.folder, self.course, step=self.step, boards=shown)
        self.place = Place(self.folder)
        failed.forget(self.folder)  # it goes on

    def feed(self, first: int, stop: int) -> Stream:
        """The stream batches from `first` up to `stop`, of every seed."""
        e = self.experiment
        steps = range(first, stop)
        labelled = e.learning.method.head is not None
        return feed(
            e.dataset,
            e.schedules,
            steps,
            length=self.chunk,
            labelled=labelled,
            pools=e.pools,
        )

    def learn(self, stop: Stop) -> dict[int, TrainState]:
        """Go through the stream by itself, as `learning`."""
        return alone(self.learning(stop))

    def learning(self, stop: Stop) -> Working[dict[int, TrainState]]:
        """Go through the stream; the final state of each seed that got to its end.

        Raises:
          Interrupted: after a SIGTERM or SIGINT, everything saved.
          TrainingError: if no seed is finite any more; the last checkpoint is good.
        """
        with Progress(self, self.name) as progress:
            try:
                self._end_experience(progress, stop, resumed=True)
                while self.step < self.course.total:
                    if self.step < self.course.passed:
                        yield from self._pass_by()
                    else:
                        yield from self._chunk(progress)
                    where = f"after stream batch {self.step} of {self.course.total}"
                    if stop.seen() or self.course.saved(self.step):
                        self._save()
                        stop.check(where)  # here only: elsewhere this chunk were lost
                    self._end_experience(progress, stop)
                    if self.step in self.course.ends:
                        stop.check(where)
            except Interrupted:
                self.checkpoints.close()  # it must not say 'saved' of what is not
                raise
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

    def _save(self) -> None:
        hosts.led(self._settle)
        states = self.seeds.split(self.states)
        progress = {
            "time": self.clock.read(),
            "trained": self.trained,
            "stopped": self.standing.as_json(),
        }
        try:
            self.checkpoints.save(self.step, states, progress)
        except StorageError:
            if hosts.leads():
                self.place.check()  # says more, if the folder has gone meanwhile
            raise

    def _settle(self) -> None:
        """Have on disk what has to be there before the checkpoint that relies on it."""
        assert self.history
        self.place.check()
        self.history.sync()

    def _pass_by(self) -> Working[None]:
        """Let memories and teachers see what was learnt before, up to the next stop."""
        first, stop = self.step, self.course.next_stop(self.step)
        with self.clock.part("train_s"):
            arrived = self.feed(first, stop)
            self.states, _ = yield self._work(self.passing, arrived, stop - first)
        self.step = stop

    def _work(self, carrier: Carrier, arrived: Stream, batches: int) -> Work:
        return Work(carrier, self.states, arrived, batches, self.standing.mask)

    def _chunk(self, progress: Progress) -> Working[None]:
        """Learn up to the next stop; the host waits once, for the metrics."""
        began, first = time.monotonic(), self.step
        stop = self.course.next_stop(first)
        with self.clock.part("train_s"):
            arrived = self._fed.pop(first, None) or self.feed(first, stop)
            if self.debug:
                self.debug.keep(self.seeds.split(self.states), arrived)
            self.states, seen = yield self._work(self.seeds, arrived, stop - first)
            if stop < self.course.total:  # read ahead while the device is busy
                self._fed[stop] = self.feed(stop, self.course.next_stop(stop))
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
        images = self.course.samples(stop) - self.course.samples(first)
        rate = images * len(self.standing.going) / max(seconds, 1e-9)

        def log() -> None:
            assert self.history is not None
            self.history.append(first, seen, rate=rate)

        hosts.led(log)
        progress.moved(self, seen[-1], rate)

    def _stop_seeds(self, found: Mapping[int, Fault], progress: Progress) -> None:
        """End the part of seeds in this run; all of it if no seed is left."""
        for line in self.standing.stop(found, latest=self.checkpoints.latest()):
            progress.say(f"{self.name}: {line}")

    def _end_experience(
        self, progress: Progress, stop: Stop, *, resumed: bool = False
    ) -> None:
        """Keep and probe the encoders, if an experience ends here.

        What was done before a kill is not done again.
        """
        experience = self.course.ends.get(self.step)
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
                where = f"while probing after stream batch {self.step}"
                self.judge.judge(stop.among(self.encoders(states), where), experience)
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
        return encoders.of(states, made.encoder, made.head)

    def probed_after(self) -> list[int]:
        """Experiences after which this run probes."""
        assert self.judge is not None
        return [e for e in self.course.ends.values() if self.judge.wants(e)]
