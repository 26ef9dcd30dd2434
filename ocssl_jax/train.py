"""A run: learn from the stream, probe, log, checkpoint; again where it was interrupted.

One class holds what changes while the run goes on. The order of things at the end of a
chunk decides what a kill may cost: the log is written, then the checkpoint; probes come
after the checkpoint of their experience, and their file is replaced in one go.

Several processes go through the same lines: what is asked of all seeds' states is done
by all of them, what is written or judged by the first.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
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
from ocssl_jax.errors import StorageError
from ocssl_jax.feed import feed
from ocssl_jax.finite import check_finite
from ocssl_jax.judging import Judge
from ocssl_jax.mesh import make_mesh
from ocssl_jax.progress import Progress
from ocssl_jax.stop import Stop
from ocssl_jax.writers import History

CHUNK = 50  # stream batches between host syncs on an accelerator


class Run:
    """One strategy on one stream, all seeds, in one workdir."""

    def __init__(self, experiment: Experiment, config: ConfigDict, folder: Path):
        """Start afresh, or from the newest checkpoint in `folder`."""
        self.experiment, self.config, self.folder = experiment, config, folder
        self.chunk = config.chunk or (1 if jax.default_backend() == "cpu" else CHUNK)
        mesh = make_mesh(jax.devices(), seeds=len(config.seeds), **config.mesh)
        made = experiment.learning
        self.seeds, self.passing = (
            seeds.carrier(made.init, step, mesh, vmap=config.backbone.name in DENSE)
            for step in (made.step, made.passing)
        )
        self.clock = Clock()
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
        self.step = int(states[0].step)
        self.clock.add(progress.get("time", {}))
        self.trained = progress.get("trained", 0)

    def _open_files(self) -> None:
        if not self.step and (self.folder / "metrics.jsonl").exists():
            print(f"{self.folder} holds no checkpoint: starting over")
        assert self.judge is not None
        self.judge.resume(
            [e for end, e in self.ends.items() if end < self.step],
            [e for end, e in self.ends.items() if end <= self.step],
            max(self.ends.values()),
        )
        board = self.config.log.tensorboard
        self.history = History(self.folder, step=self.step, tensorboard=board)

    def feed(self, first: int, stop: int) -> Stream:
        """The stream batches from `first` up to `stop`, of every seed."""
        e = self.experiment
        steps = range(first, stop)
        return feed(e.dataset, e.schedules, steps, length=self.chunk)

    def learn(self, stop: Stop) -> list[TrainState]:
        """Go through the stream to its end; the final state of each seed.

        Raises:
          Interrupted: after a SIGTERM or SIGINT, everything saved.
          TrainingError: if a loss is not finite; the last checkpoint is a good one.
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
        return self.seeds.split(self.states)

    def _save_due(self) -> bool:
        return self.step % self.config.checkpoint.every == 0 or self.step in self.ends

    def _save(self) -> None:
        states = self.seeds.split(self.states)
        progress = {"time": self.clock.read(), "trained": self.trained}
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
            self.states, _ = self.passing.learn(self.states, arrived, stop - first)
        self.step = stop

    def _chunk(self, progress: Progress) -> None:
        """Learn up to the next stop; the host waits once, for the metrics."""
        began, first = time.monotonic(), self.step
        stop = self._next_stop(first)
        with self.clock.part("train_s"):
            arrived = self._fed.pop(first, None) or self.feed(first, stop)
            self.states, seen = self.seeds.learn(self.states, arrived, stop - first)
            if stop < self.total:  # read ahead while the device is busy
                self._fed[stop] = self.feed(stop, self._next_stop(stop))
            seen = self.seeds.metrics(seen, stop - first)
        self.step = stop
        seconds = time.monotonic() - began
        check_finite(first, seen, self.config.seeds, self.checkpoints)
        rows = sum(int(m["rows"]) for per_seed in seen for m in per_seed)
        views = self.experiment.learning.method.views
        self.trained += rows * views * self.config.passes
        images = self.samples(stop) - self.samples(first)
        rate = images * len(self.config.seeds) / max(seconds, 1e-9)
        self._log(first, seen, rate)
        progress.moved(self, seen[-1], rate)

    def _log(self, first: int, seen: Sequence[Sequence[Any]], rate: float) -> None:
        if self.history is None:
            return
        for step, metrics in enumerate(seen, first + 1):
            if step % self.config.log.every == 0 or step == self.total:
                self.history.append(self._line(step, metrics, rate))

    def samples(self, step: int) -> int:
        """Stream images that one seed has met by `step`."""
        return int(self.met[step])

    def _line(
        self, step: int, per_seed: Sequence[dict[str, Any]], rate: float
    ) -> dict[str, Any]:
        """A record of `metrics.jsonl`: means over seeds, then every seed's value.

        What a draw told has a number a pass, a list in place of a number.
        """
        names = per_seed[0]
        values = {k: np.asarray([m[k] for m in per_seed], np.float64) for k in names}
        return {
            "step": step,
            "samples_seen": self.samples(step),
            "experience": int(self.experiment.schedules[0].experience[step - 1]),
            **{name: v.mean(axis=0).tolist() for name, v in values.items()},
            "per_seed": {name: v.tolist() for name, v in values.items()},
            "images_per_s": round(rate, 2),
        }

    def _end_experience(self, progress: Progress, *, resumed: bool = False) -> None:
        """Keep and probe the encoders, if an experience ends here.

        What was done before a kill is not done again.
        """
        experience = self.ends.get(self.step)
        if experience is None:
            return
        states = self.seeds.split(self.states)

        def close() -> None:
            assert self.judge is not None
            if self.config.checkpoint.encoders:
                self._keep_encoders(states, experience, missing_only=resumed)
            due = self.judge.wants(experience, max(self.ends.values()))
            if due and not self.judge.has_judged(experience):
                progress.probing(self)
                self.judge.judge(self.encoders(states), experience)
                progress.probed(self, experience)

        with self.clock.part("probe_s"):
            hosts.led(close)

    def probed_after(self) -> list[int]:
        """Experiences after which this run probes."""
        assert self.judge is not None
        last = max(self.ends.values())
        return [e for e in self.ends.values() if self.judge.wants(e, last)]

    def _keep_encoders(
        self, states: Sequence[TrainState], experience: int, *, missing_only: bool
    ) -> None:
        """Write every seed's encoder; one that is there may be of an older attempt."""
        folder = encoders.after(self.folder, experience)
        for seed, variables in self.encoders(states):
            path = encoders.file(folder, seed)
            if not (missing_only and path.exists()):
                encoders.save(path, variables)

    def encoders(self, states: Sequence[TrainState]) -> Iterator[tuple[int, Variables]]:
        """Each seed and its encoder, the one that is probed, on the host."""
        encoder = self.experiment.learning.method.encoder
        for seed, state in zip(self.config.seeds, states, strict=True):
            yield seed, jax.device_get(encoder(state.params["method"], state.model))
