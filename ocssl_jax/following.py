"""Learning from a folder of pictures that grows meanwhile.

What was learnt is told by `seen.jsonl`, a line a stream batch. It is on disk before the
checkpoint that relies on it, and lines after the newest checkpoint are dropped when the
folder is followed again: so state and list are of one moment, whenever a kill comes.
"""

import os
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ocssl_jax import failed, settings, workdir, writers
from ocssl_jax.checkpoint import steps_in
from ocssl_jax.data import DATASETS, folders
from ocssl_jax.data.growing import Growing
from ocssl_jax.errors import Interrupted, TrainingError, UsageError
from ocssl_jax.faults import HINT, fault
from ocssl_jax.online import Learner
from ocssl_jax.progress import QUIET
from ocssl_jax.stop import Stop
from ocssl_jax.workdir import SEEN

SAVES = "checkpoints"


def follow(
    config: ConfigDict, root: Path, place: Path, overrides: Mapping[str, Any]
) -> str:
    """Learn every picture of a folder once, in the order of arrival; what was learnt.

    Args:
      config: from a file of `configs/`, with the command line's values in it.
      root: the folder, with any folders below it.
      place: the workdir; an earlier one of the same config is gone on with.
      overrides: fields set on the command line.

    Raises:
      UsageError: before anything is written, if that is not possible.
      Interrupted: after a SIGTERM or SIGINT, everything saved.
      TrainingError: if the loss is not finite; the last checkpoint is good.
    """
    learner = Learner(config, overrides)
    check(learner.config, root)
    described = settings.as_json(learner.config)
    workdir.check(place, described)
    learner.check(example_of(learner.config))
    with workdir.held(place), Stop() as stop, failed.kept(place):
        workdir.describe_once(place, described, overrides)
        follower = Follower(learner, root, place)
        failed.forget(place)  # it goes on
        return follower.follow(stop)


def check(config: ConfigDict, root: Path) -> None:
    """Refuse what cannot be followed.

    Raises:
      UsageError: naming the folder or the field.
    """
    if not root.is_dir():
        raise UsageError(f"there is no folder {root}")
    try:
        os.scandir(root).close()
    except OSError as error:
        raise UsageError(f"{root}: cannot be listed ({error.strerror})") from error
    if config.method.name == "supervised":
        raise UsageError(
            "config.method.name='supervised' learns from labels, which a followed "
            "folder has none of"
        )
    if len(config.seeds) > 1:
        raise UsageError(f"config.seeds must be one seed here, got {config.seeds}")
    if not config.stream.image_size:
        raise UsageError("config.stream.image_size must be at least 1 here, got 0")


def example_of(config: ConfigDict) -> np.ndarray:
    """A batch [1 h w c] of the images' size."""
    side, channels = config.stream.image_size, len(DATASETS[config.stream.dataset].mean)
    return np.zeros((1, side, side, channels), np.uint8)


def learnt(path: Path, step: int) -> list[str]:
    """The files that stream batches 1 to `step` were of.

    Raises:
      UsageError: if a batch is missing, whose files would be learnt again.
    """
    lines = writers.read(path)
    named = [line["files"] for line in lines if isinstance(line.get("files"), list)]
    if [line["step"] for line in lines] != list(range(1, step + 1)) or len(
        named
    ) != len(lines):
        raise UsageError(
            f"{path} does not say of each of the {step} stream batches learnt which "
            f"files it was of; bring it back, or start over in another --workdir"
        )
    return [name for names in named for name in names]


class Follower:
    """One learner, its folder and its files."""

    def __init__(self, learner: Learner, root: Path, place: Path):
        """Go on where the newest checkpoint in `place` stands, or begin."""
        s = learner.config.stream
        self.learner, self.place, self.size = learner, place, s.batch_size
        self.example = example_of(learner.config)
        if steps_in(place / SAVES):
            self.state = learner.load(place / SAVES, self.example)
            # A kill may have come between this checkpoint and its encoder.
            learner.export(place, self.state, self.example)
        else:
            key = jax.random.key(learner.config.seeds[0])
            self.state = learner.init(key, self.example)
        self.step = self.saved = int(self.state.step)
        self.seen = writers.Lines(place / SEEN, step=self.step)
        self.log = writers.Lines(place / "metrics.jsonl", step=self.step)
        names = learnt(place / SEEN, self.step)
        self.learnt = len(names)
        self.growing = Growing(root, names)
        channels = self.example.shape[-1]
        self.read = partial(
            folders.picture_of, root, channels=channels, size=s.image_size
        )
        self.said = time.monotonic()

    def follow(self, stop: Stop) -> str:
        """Until it is quiet for long enough, or somebody says stop."""
        s, last = self.learner.config.stream, time.monotonic()
        if self.learnt:
            self.say(f"resumed after {self.learnt:,} pictures")
        while True:
            if self.growing.look() or self.growing.coming:
                last = time.monotonic()
            while not stop.seen() and self.learn(self.size):
                last = time.monotonic()
            if stop.seen():
                self.save()
                raise Interrupted(f"stopped after {self.learnt:,} pictures")
            if s.quiet and time.monotonic() > last + s.quiet:
                break
            time.sleep(s.look)
        self.learn(1)
        self.save()
        broken = len(self.growing.broken)
        skipped = f", {broken:,} could not be read" if broken else ""
        return f"{self.learnt:,} pictures learnt{skipped}: {self.place}"

    def learn(self, least: int) -> bool:
        """Learn a stream batch of what waits; False if that is fewer than `least`."""
        if len(self.growing.waiting) < least:
            return False
        taken, lost = self.growing.take(self.size, self.read)
        if lost:
            root = str(self.growing.root)
            print(folders.skipped(root, len(taken), lost), file=sys.stderr, flush=True)
        if len(taken) < least:
            self.growing.put_back(taken)
            return False
        images = np.stack([image for _, image in taken])
        self.state, metrics = self.learner.observe(self.state, images)
        self.step, self.learnt = self.step + 1, self.learnt + len(taken)
        self.note([file.path for file, _ in taken], jax.device_get(metrics))
        if self.step % self.learner.config.checkpoint.every == 0:
            self.save()
        return True

    def note(self, names: list[str], metrics: Mapping[str, Any]) -> None:
        """Write down what a stream batch was and told."""
        if bad := fault(self.step, metrics):
            raise TrainingError(
                f"{bad.reason} at stream batch {bad.step}; the last good checkpoint is "
                f"that of {self.saved or 'none'}. {HINT}"
            )
        self.seen.append({"step": self.step, "files": names})
        if self.step % self.learner.config.log.every == 0:
            self.log.append(writers.record(self.step, self.learnt, 0, [metrics]))
        if time.monotonic() > self.said + QUIET:
            waiting = len(self.growing.waiting)
            self.say(
                f"{self.learnt:,} pictures, loss {metrics['loss']:.3f}, {waiting:,} "
                f"waiting"
            )

    def save(self) -> None:
        """Have everything so far on disk, the encoder too, to be used meanwhile."""
        if self.step == self.saved:
            return
        self.seen.sync()
        self.log.sync()
        self.learner.save(self.place / SAVES, self.state)
        self.learner.export(self.place, self.state, self.example)
        self.saved = self.step

    def say(self, line: str) -> None:
        """A line for whoever watches."""
        print(f"{self.learner.config.strategy.name}: {line}", flush=True)
        self.said = time.monotonic()
