"""Checkpoints of a whole run: every seed's state and the run's counters.

Orbax writes each step into a folder of its own and renames it when complete, so a step
that can be listed can be restored. Its API is used here and nowhere else.
"""

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
    """The first line of an error's text, its kind if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def saved_in(folder: Path) -> bool:
    """Whether `folder` holds a whole checkpoint; nothing is opened."""
    return folder.is_dir() and any(path.name.isdecimal() for path in folder.iterdir())


class Checkpoints:
    """The checkpoints of one workdir, newest `keep` of them."""

    def __init__(self, folder: Path, *, keep: int):
        """Open `folder`, creating it if need be; left-overs of a kill are removed."""
        self._folder = folder
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            # Named here, since metadata can only be read where a handler is known.
            item_handlers={
                "states": ocp.StandardCheckpointHandler(),
                "progress": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep, cleanup_tmp_directories=True
            ),
        )

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
        with self._told(f"checkpoint {step}"):
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    states=ocp.args.StandardSave(states),
                    progress=ocp.args.JsonSave(checked),
                ),
            )

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Whatever orbax and tensorstore raise when a disk fails, in one line."""
        try:
            yield
        except Exception as error:
            raise StorageError(
                f"{what} cannot be written to {self._folder} ({first_line(error)}); "
                f"the last good one is {self.latest() or 'none'}"
            ) from error

    def restore(
        self, like: list[TrainState]
    ) -> tuple[list[TrainState], dict[str, Any]]:
        """The newest step, in the structure, shapes and shardings of `like`.

        Raises:
          UsageError: if the checkpoint does not fit, or cannot be read.
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

    def unfit(self, error: Exception) -> UsageError:
        """What to say of the newest step, which was found not to be what it should."""
        self._manager.close()
        return UsageError(
            f"checkpoint {self._folder / str(self.latest())} cannot be restored "
            f"({first_line(error)}); delete that folder to resume from an earlier step"
        )

    def wait(self) -> None:
        """Block until everything saved is on disk."""
        with self._told("a checkpoint"):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Finish writing and release the folder."""
        with self._told("a checkpoint"):
            self._manager.close()
