"""A run: learn from the stream, probe, log, checkpoint; again where it was interrupted.

One class holds what changes while the run goes on. The order of things at the end of a
chunk decides what a kill may cost: the log is written, then the checkpoint; probes come
after the checkpoint of their experience, and their file is replaced in one go.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ocssl_jax import accuracy, encoders, scopes, seeds, workdir
from ocssl_jax.build import Experiment, arrival
from ocssl_jax.checkpoint import Checkpoints
from ocssl_jax.clock import Clock
from ocssl_jax.core import TrainState, Variables
from ocssl_jax.errors import StorageError, TrainingError, UsageError
from ocssl_jax.probing import Accuracies, Encoder, judge, probing
from ocssl_jax.progress import Progress
from ocssl_jax.stop import Stop
from ocssl_jax.writers import History

CHUNK = 50  # stream batches between host syncs on an accelerator


class Run:
    """One strategy on one stream, all seeds, in one workdir."""

    def __init__(self, experiment: Experiment, config: ConfigDict, folder: Path):
        """Start afresh, or from the newest checkpoint in `folder`."""
        self.experiment, self.config, self.folder = experiment, config, folder
        self.seeds = seeds.for_platform(
            jax.default_backend(), experiment.learning.init, experiment.learning.step
        )
        self.clock = Clock()
        self.step, self.trained = 0, 0  # stream batches; augmented images, all seeds
        self.states = self.seeds.init(
            [jax.random.key(seed) for seed in config.seeds], self.arrivals(0)
        )
        self.encode = Encoder(experiment, batch_size=config.probe.batch_size)
        self.images = probing(experiment, config) if config.probe.names else None
        self.ways = scopes.variants(config.probe)
        self.checkpoints = Checkpoints(
            folder / "checkpoints", keep=config.checkpoint.keep
        )
        if self.checkpoints.latest() is not None:
            self._restore()
        elif (folder / "metrics.jsonl").exists():
            print(f"{folder} holds no checkpoint: starting over")
        which = experiment.schedules[0].experience
        last = np.flatnonzero(np.diff(which, append=-1))
        self.ends = {int(i) + 1: int(which[i]) for i in last}  # step -> experience
        self.total = len(which)
        rows = experiment.schedules[0].mask.sum(axis=1)  # the same for every seed
        self.met = np.concatenate([[0], np.cumsum(rows)])  # stream images by step
        self.records = self._read_records()
        self.validation = self._read_validation()
        self.history = History(
            folder, step=self.step, tensorboard=config.log.tensorboard
        )

    def _restore(self) -> None:
        like = self.seeds.split(self.states)
        states, progress = self.checkpoints.restore(like)
        self.states = self.seeds.join(states)
        self.step = int(states[0].step)
        self.clock.add(progress.get("time", {}))
        self.trained = progress.get("trained", 0)

    def _read_records(self) -> list[accuracy.Record]:
        """Rows of `accuracy.csv` that the restored step has already earned.

        Raises:
          UsageError: if rows are missing that cannot be measured again.
        """
        path = self.folder / "accuracy.csv"
        rows = accuracy.read(path) if path.exists() else []
        found = {row.after_experience for row in rows}
        for end, experience in self.ends.items():
            gone = self.images and end < self.step and experience not in found
            if gone and self._wanted(experience):
                raise UsageError(
                    f"{path} lacks experience {experience}, which this run has passed: "
                    f"bring the file back, or start over in another --workdir"
                )
        done = {e for end, e in self.ends.items() if end <= self.step}
        return [row for row in rows if row.after_experience in done]

    def _read_validation(self) -> list[accuracy.Record]:
        """Rows of `validation.csv` that belong to those of `accuracy.csv`."""
        path = self.folder / "validation.csv"
        rows = accuracy.read(path) if path.exists() else []
        done = {row.after_experience for row in self.records}
        return [row for row in rows if row.after_experience in done]

    def _wanted(self, experience: int) -> bool:
        return (experience + 1) % self.config.probe.every == 0

    def probed_after(self) -> list[int]:
        """Experiences after which this run probes."""
        last = max(self.ends.values())
        return [e for e in self.ends.values() if self._wanted(e) or e == last]

    def arrivals(self, step: int) -> list[Any]:
        """Each seed's stream batch of `step`."""
        e = self.experiment
        return [arrival(e.dataset, schedule, step) for schedule in e.schedules]

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
                    self._chunk(progress)
                    if stop.asked or self._save_due():
                        self._save()
                    stop.check(f"after stream batch {self.step} of {self.total}")
                    self._end_experience(progress)
                    stop.check(f"after stream batch {self.step} of {self.total}")
            except BaseException:
                with suppress(StorageError):  # the error under way says more
                    self.checkpoints.close()
                raise
            finally:
                self.history.close()
        self.checkpoints.close()
        return self.seeds.split(self.states)

    def _save_due(self) -> bool:
        return self.step % self.config.checkpoint.every == 0 or self.step in self.ends

    def _save(self) -> None:
        states = self.seeds.split(self.states)
        progress = {"time": self.clock.read(), "trained": self.trained}
        self.checkpoints.save(self.step, states, progress)

    def _next_stop(self) -> int:
        """The step at which the host looks at results again."""
        on_cpu = jax.default_backend() == "cpu"
        chunk = self.config.chunk or (1 if on_cpu else CHUNK)
        every = self.config.checkpoint.every
        end = min(end for end in self.ends if end > self.step)
        return min(self.step + chunk, (self.step // every + 1) * every, end)

    def _chunk(self, progress: Progress) -> None:
        """Learn up to the next stop without waiting for any result in between."""
        began, first, stop = time.monotonic(), self.step, self._next_stop()
        with self.clock.part("train_s"):
            seen = []
            for step in range(first, stop):
                self.states, metrics = self.seeds.step(self.states, self.arrivals(step))
                seen.append(metrics)
            seen = [self.seeds.per_seed(metrics) for metrics in jax.device_get(seen)]
        self.step = stop
        seconds = time.monotonic() - began
        self._check_finite(first, seen)
        rows = sum(int(m["rows"]) for per_seed in seen for m in per_seed)
        views = self.experiment.learning.method.views
        self.trained += rows * views * self.config.passes
        images = self.samples(stop) - self.samples(first)
        rate = images * len(self.config.seeds) / max(seconds, 1e-9)
        for step, metrics in enumerate(seen, first + 1):
            if step % self.config.log.every == 0 or step == self.total:
                self.history.append(self._line(step, metrics, rate))
        progress.moved(self, seen[-1], rate)

    def samples(self, step: int) -> int:
        """Stream images that one seed has met by `step`."""
        return int(self.met[step])

    def _check_finite(self, first: int, seen: Sequence[Sequence[Any]]) -> None:
        for step, per_seed in enumerate(seen, first + 1):
            for seed, metrics in zip(self.config.seeds, per_seed, strict=True):
                for name in ("loss", "gradient_norm", "parameter_norm"):
                    if not np.isfinite(metrics[name]):
                        raise TrainingError(
                            f"{name} is {metrics[name]} at stream batch {step}, seed "
                            f"{seed}; the last good checkpoint is "
                            f"{self.checkpoints.latest() or 'none'}. A smaller "
                            f"optimizer.learning_rate often helps."
                        )

    def _line(
        self, step: int, per_seed: Sequence[dict[str, Any]], rate: float
    ) -> dict[str, Any]:
        """A record of `metrics.jsonl`: means over seeds, then every seed's value."""
        values = {k: [float(m[k]) for m in per_seed] for k in per_seed[0]}
        return {
            "step": step,
            "samples_seen": self.samples(step),
            "experience": int(self.experiment.schedules[0].experience[step - 1]),
            **{name: float(np.mean(v)) for name, v in values.items()},
            "per_seed": values,
            "images_per_s": round(rate, 2),
        }

    def _end_experience(self, progress: Progress, *, resumed: bool = False) -> None:
        """Keep and probe the encoders, if an experience ends here.

        What was done before a kill is not done again.
        """
        experience = self.ends.get(self.step)
        if experience is None:
            return
        if self.config.checkpoint.encoders:
            self._keep_encoders(experience, missing_only=resumed)
        done = any(r.after_experience == experience for r in self.records)
        if self.images is None or done or experience not in self.probed_after():
            return
        progress.probing(self)
        with self.clock.part("probe_s"):
            for found in self._probed(experience):
                self.records += found.test
                self.validation += found.val
        if self.validation:
            write_records(self.folder / "validation.csv", self.validation)
        # Last: an experience counts as probed once its rows are in this file.
        write_records(self.folder / "accuracy.csv", self.records)
        progress.probed(self, experience)

    def _keep_encoders(self, experience: int, *, missing_only: bool) -> None:
        """Write every seed's encoder; one that is there may be of an older attempt."""
        folder = encoders.after(self.folder, experience)
        for seed, variables in self.encoders(self.seeds.split(self.states)):
            path = encoders.file(folder, seed)
            if not (missing_only and path.exists()):
                encoders.save(path, variables)

    def encoders(self, states: Sequence[TrainState]) -> Iterator[tuple[int, Variables]]:
        """Each seed and its encoder, the one that is probed."""
        encoder = self.experiment.learning.method.encoder
        for seed, state in zip(self.config.seeds, states, strict=True):
            yield seed, encoder(state.params["method"], state.model)

    def _probed(self, experience: int) -> list[Accuracies]:
        """Accuracies of every seed's encoder."""
        assert self.images is not None
        return [
            judge(
                self.experiment.probes,
                self.ways,
                self.images,
                self.encode.all(variables, self.images),
                seed=seed,
                after=experience,
            )
            for seed, variables in self.encoders(self.seeds.split(self.states))
        ]


def write_records(path: Path, records: Sequence[accuracy.Record]) -> None:
    """Replace `accuracy.csv`, or a file of its kind."""
    lines = [",".join(accuracy.FIELDS)]
    # In full: a resumed run computes its summary from what it reads here.
    lines += [",".join(map(str, record)) for record in records]
    workdir.write(path, "\n".join(lines) + "\n")
