"""Checkpoints of a whole run: every seed's state and the run's counters.

Orbax writes each step into a folder of its own and renames it when complete, so a step
that can be listed can be restored. Its API is used here and nowhere else.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from ocssl_jax import checksums
from ocssl_jax.core import TrainState
from ocssl_jax.errors import StorageError, UsageError

CHECKS = "checksums"  # field of the progress on disk
MOST = 300  # characters of what others have to say
# What keeps a file from being read, however good it is.
UNREADABLE = (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EMFILE)


def check_types(saved: Any, template: Any) -> None:
    """Refuse a saved tree whose dtypes differ: orbax would cast them in silence.

    Raises:
      ValueError: naming the first leaf that differs.
    """
    found = {leaf.name: leaf.dtype for leaf in jax.tree.leaves(saved.tree)}
    for path, leaf in jax.tree_util.tree_leaves_with_path(template):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        if name in found and not is_key and found[name] != leaf.dtype:
            raise ValueError(f"{name} is {found[name]}, this run needs {leaf.dtype}")


def first_line(error: Exception) -> str:
    """The first line of an error's text, as far as one reads; its kind if none.

    Of what is long both ends are kept: what failed, and the system's reason.
    """
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    line = line.partition(" [tensorstore_spec=")[0]
    half = MOST // 2
    return line if len(line) <= MOST else f"{line[:half]} ... {line[-half:]}"


def steps_in(folder: Path) -> list[int]:
    """The whole checkpoints in `folder`, in order; nothing is opened."""
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal())


def refused(error: Exception) -> bool:
    """Whether files could not be read, which says nothing of what they hold."""
    words = ("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", *map(os.strerror, UNREADABLE))
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def unfit(folder: Path, step: int, error: Exception) -> UsageError | StorageError:
    """What to say of a checkpoint in `folder` that is not what it should be."""
    what, why = f"checkpoint {folder / str(step)}", first_line(error)
    if refused(error):
        return StorageError(
            f"{what} cannot be read ({why}); repeat the command once it can be"
        )
    earlier = [known for known in steps_in(folder) if known < step]
    then = f"go on from checkpoint {earlier[-1]}" if earlier else "start over"
    return UsageError(
        f"{what} cannot be restored ({why}); move that folder away to {then}"
    )


def progress_in(folder: Path, step: int) -> dict[str, Any]:
    """What was saved as JSON beside a checkpoint's states; nothing else is opened.

    Returns:
      Its fields; none where nothing was saved so, as in a folder of another kind.

    Raises:
      UsageError: if it is damaged.
      StorageError: if it may not be read.
    """
    path = folder / str(step) / "progress"
    if not path.is_dir():
        return {}
    try:
        found = ocp.JsonCheckpointHandler().restore(path)
        if not isinstance(found, dict):
            raise ValueError("its progress is damaged")
    except Exception as error:  # whatever damaged bytes provoke
        raise unfit(folder, step, error) from error
    return found


def damaged(folder: Path) -> int | None:
    """The newest step whose own metadata, which a manager reads first, are damaged."""
    names = ocp.path.step.standard_name_format()
    for step in reversed(steps_in(folder)):
        try:
            _ = names.find_step(folder, step).commit_timestamp
        except Exception:  # whatever their bytes provoke
            return step
    return None


class Checkpoints:
    """The checkpoints of one workdir, newest `keep` of them."""

    def __init__(self, folder: Path, *, keep: int):
        """Open `folder`, creating it if need be; left-overs of a kill are removed.

        Raises:
          UsageError: if a checkpoint is damaged such that none can be listed.
          StorageError: if one may not be read.
        """
        self._folder = folder
        try:
            self._manager = ocp.CheckpointManager(
                folder.absolute(),
                # Named, since metadata can only be read where a handler is known.
                item_handlers={
                    "states": ocp.StandardCheckpointHandler(),
                    "progress": ocp.JsonCheckpointHandler(),
                },
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=keep, cleanup_tmp_directories=True
                ),
            )
        except Exception as error:
            step = damaged(folder)
            if step is None:
                raise
            raise unfit(folder, step, error) from error

    def latest(self) -> int | None:
        """The newest complete step, None if there is none."""
        return self._manager.latest_step()

    def save(self, step: int, states: list[TrainState], progress: dict) -> None:
        """Write `states` as `step` in the background; a step that exists is kept.

        Args:
          step: stream batches learnt.
          states: one a seed; may be donated as soon as this returns.
          progress: what JSON can hold: timings and the like.
        """
        if step in self._manager.all_steps():
            return
        checked = {**progress, CHECKS: checksums.sums(states, progress)}
        with self._told():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    states=ocp.args.StandardSave(states),
                    progress=ocp.args.JsonSave(checked),
                ),
            )

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Whatever orbax and tensorstore raise when a disk fails, in one line.

        It may be about the save before: they are written in the background.
        """
        try:
            yield
        except Exception as error:
            left = steps_in(self._folder)
            raise StorageError(
                f"a checkpoint cannot be written to {self._folder} "
                f"({first_line(error)}); the last good one is "
                f"{left[-1] if left else 'none'}"
            ) from error

    def restore(
        self, like: list[TrainState]
    ) -> tuple[list[TrainState], dict[str, Any]]:
        """The newest step, in the structure, shapes and shardings of `like`.

        Raises:
          UsageError: if the checkpoint does not fit, or is damaged.
          StorageError: if it may not be read, or memory does not suffice.
        """
        step = self._manager.latest_step()
        template = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            check_types(self._manager.item_metadata(step)["states"], template)
            found = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    states=ocp.args.StandardRestore(template),
                    progress=ocp.args.JsonRestore(),
                ),
            )
            states, progress = found["states"], found["progress"]
            if not isinstance(progress, dict):
                raise ValueError("its progress is damaged")
            if known := progress.pop(CHECKS, None):  # older versions wrote none
                checksums.check(known, states, progress)
        except Exception as error:  # damaged files raise whatever their bytes provoke
            raise self.unfit(error) from error
        return states, progress

    def unfit(self, error: Exception) -> UsageError | StorageError:
        """What to say of the newest step, which was found not to be what it should."""
        step = self._manager.latest_step()
        self._manager.close()
        return unfit(self._folder, step, error)

    def wait(self) -> None:
        """Block until everything saved is on disk."""
        with self._told():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Finish writing and release the folder."""
        with self._told():
            self._manager.close()
