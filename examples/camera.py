"""Learn from a camera or a video while it runs; needs pip install 'ocssl_jax[camera]'.

  python examples/camera.py 0                             the first camera, until Ctrl-C
  python examples/camera.py walk.mp4 --every 5 --workdir runs/walk

Every so many frames one is learnt, resized to stream.image_size of --config (default
configs/folder.py), a stream batch at a time. The same command goes on with what
--workdir holds; `python -m ocssl_jax.embed` takes that for a run's.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from ocssl_jax import Learner, signals
from ocssl_jax.checkpoint import steps_in
from ocssl_jax.commandline import (
    Parser,
    configured,
    default_workdir,
    ending,
    field_flags,
    own_configs_first,
    program,
)
from ocssl_jax.config_files import ROOT
from ocssl_jax.errors import UsageError
from ocssl_jax.stop import Stop

PROGRAM = "examples/camera.py"


def frames(source: str, *, every: int, size: int) -> Iterator[np.ndarray]:
    """Each `every`th frame of a video file or a camera's number, [size size 3] uint8.

    Raises:
      UsageError: if OpenCV is not there, or cannot open the source.
    """
    try:
        import cv2
    except ImportError as error:
        raise UsageError(
            "a camera needs OpenCV: pip install 'ocssl_jax[camera]'"
        ) from error
    camera = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    if not camera.isOpened():
        raise UsageError(f"{source} is neither a video nor a camera that can be opened")
    try:
        number = 0
        while camera.grab():
            if number % every == 0:
                frame = cv2.cvtColor(camera.retrieve()[1], cv2.COLOR_BGR2RGB)
                yield cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA)
            number += 1
    finally:
        camera.release()


def batches(images: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """`size` images at a time, the last ones fewer."""
    batch: list[np.ndarray] = []
    for image in images:
        batch.append(image)
        if len(batch) == size:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


def learn(learner: Learner, source: str, place: Path, *, every: int) -> str:
    """Learn the source to its end, or until asked to stop; what was learnt."""
    s, saves, count = learner.config.stream, place / "checkpoints", 0
    example = np.zeros((1, s.image_size, s.image_size, 3), np.uint8)
    if steps_in(saves):
        state = learner.load(saves, example)
    else:
        state = learner.init(jax.random.key(learner.config.seeds[0]), example)
    with Stop() as stop:
        arriving = frames(source, every=every, size=s.image_size)
        for images in batches(arriving, s.batch_size):
            state, metrics = learner.observe(state, images)
            count += len(images)
            if int(state.step) % learner.config.log.every == 0:
                print(f"{count} frames, loss {metrics['loss']:.3f}", flush=True)
            if stop.seen():
                break
    if count:
        learner.save(saves, state)
        learner.export(place, state, example)
    return f"{count} frames learnt: {place}"


def main(argv: Sequence[str] | None = None) -> None:
    """Learn from what the command line names."""
    parser = Parser(PROGRAM, __doc__)
    parser.add_argument("source")
    parser.add_argument("--config", default=str(ROOT / "configs" / "folder.py"))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--workdir", type=Path)
    given, rest = parser.parse_known_args(argv)
    own_configs_first()
    place = given.workdir or default_workdir(given.config)
    with ending(PROGRAM, place):
        if given.every < 1:
            raise UsageError(f"--every must be at least 1, got {given.every}")
        signals.interrupt()  # until somebody listens
        config, overrides = configured([f"--config={given.config}", *field_flags(rest)])
        learner = Learner(config, overrides)
        print(learn(learner, given.source, place, every=given.every))


if __name__ == "__main__":
    program(main)
