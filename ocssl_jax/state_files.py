"""Folders that hold a learner's state: whose it is, and what must not be written over.

`Learner.save` keeps the newest state alone, so what else may lie in its folder is asked
for first: from small JSON files, before anything is opened, cleaned up or written.
"""

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ocssl_jax import settings
from ocssl_jax.checkpoint import Checkpoints, progress_in, steps_in
from ocssl_jax.core import TrainState
from ocssl_jax.encoders import FINAL
from ocssl_jax.errors import UsageError, of_disk
from ocssl_jax.pixels import Shape
from ocssl_jax.states import size
from ocssl_jax.workdir import read_json

EXPORTED = ("config.json", FINAL)  # what `Learner.export` writes
DRAFTS = (".draft", ".orbax-checkpoint-tmp")  # left by a kill, in the middle or the end

Fits = Callable[[Shape], bool]


@contextmanager
def on_disk(place: Path) -> Iterator[None]:
    """Whatever the operating system says of a folder, in one line.

    Raises:
      UsageError: if it, or one above it, is a file.
      StorageError: if it cannot be made, read or written.
    """
    try:
        yield
    except OSError as error:
        for path in (place, *place.parents):
            if os.path.isfile(path):
                raise UsageError(f"{path} is a file, a folder is needed") from error
        raise of_disk(error, place) from error


def described(config: Mapping[str, Any], shape: Shape | None) -> dict[str, Any]:
    """What is written beside a state: the config, and the images' shape if known."""
    return {"config": config, "image_shape": shape and list(shape)}


def save(place: Path, state: TrainState, about: Mapping[str, Any], fits: Fits) -> None:
    """Write a state and what `described` says, in place of an earlier one.

    Args:
      place: the folder.
      state: of one learner.
      about: as `described` gives it.
      fits: whether the state could be for images of a shape.

    Raises:
      UsageError: if the folder holds a later one, or what must not be written over.
      OSError: if it cannot be written to.
    """
    step = int(state.step)
    made(place)
    check_free(place, about["config"], fits)
    latest = max(steps_in(place), default=-1)
    if latest >= step:
        raise UsageError(
            f"{place} holds the state after stream batch {latest}, this is the one "
            f"after {step}: a folder only takes later ones"
        )
    saves = Checkpoints(place, keep=1)
    saves.save(step, [state], dict(about))
    saves.close()


def newest(place: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """What `described` said of the newest state.

    Raises:
      UsageError: if there is none, or it is of another config.
    """
    if not (steps := steps_in(place)):
        raise UsageError(f"{place} holds no state of a learner")
    return about(place, steps[-1], config)


def restore(place: Path, like: TrainState, guessed: str) -> TrainState:
    """The newest state, whose config is `like`'s.

    Args:
      place: the folder.
      like: a state for images of the same size.
      guessed: that size in words, where nothing says that it is the same; else ''.

    Raises:
      UsageError: if it is damaged, or of another size.
    """
    saves = Checkpoints(place, keep=1)
    try:
        [state], _ = saves.restore([like])
    except UsageError as error:
        if not guessed:
            raise
        raise UsageError(
            f"if the images of the state in {place} were not {guessed}, give an "
            f"example of theirs; otherwise, {error}"
        ) from error
    saves.close()
    return state


def made(place: Path) -> None:
    """Make a folder that can be written to, unless there is one.

    Raises:
      OSError: if that is not possible. The storage library would say so at length.
    """
    place.mkdir(parents=True, exist_ok=True)
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))


def check_free(place: Path, config: Mapping[str, Any], fits: Fits) -> None:
    """Refuse a folder in which a learner's state cannot take an earlier one's place.

    Raises:
      UsageError: if a state in it is of another config or size of images, or no
        learner's, or it holds other files and no state.
    """
    for step in steps_in(place):
        known = shape_in(about(place, step, config))
        if known and not fits(known):
            raise UsageError(
                f"{place} holds a state for images of {size(known)}, this is one for "
                f"another size; choose another folder"
            )
    if steps_in(place):
        return
    for path in sorted(place.iterdir()):
        hidden = path.name.startswith(".") and path.name != ".lock"  # a run's
        draft = any(part in path.name for part in DRAFTS)
        if not (hidden or draft or path.name in EXPORTED):
            raise UsageError(
                f"{place} holds {path.name} and no state of a learner; choose an empty "
                f"or new folder"
            )
    path = place / EXPORTED[0]
    if path.exists():
        same(place, "an encoder", read_json(path, needs="config")["config"], config)


def about(place: Path, step: int, config: Mapping[str, Any]) -> dict[str, Any]:
    """What was written beside a state of a learner of this config.

    Raises:
      UsageError: if it is of another config, naming a field, or no learner's.
    """
    found = progress_in(place, step)
    if "config" not in found:
        raise UsageError(
            f"{place / str(step)} is no state that a learner has saved; choose another "
            f"folder"
        )
    same(place, "a state", found["config"], config)
    return found


def same(place: Path, what: str, old: Any, config: Mapping[str, Any]) -> None:
    """Refuse what was made with another config.

    Raises:
      UsageError: naming the first field that differs, as old -> new.
    """
    if changed := settings.changed(old, config):
        raise UsageError(
            f"{place} holds {what} of a learner of another config ({changed}); choose "
            f"another folder, or that config"
        )


def shape_in(about: Mapping[str, Any]) -> Shape | None:
    """The shape of the images that a state was made for; older versions wrote none."""
    match about.get("image_shape"):
        case [int(height), int(width), int(channels)]:
            return height, width, channels
    return None
