"""Dashboards that show a run's log while it goes on, beside its own files.

TensorBoard reads `tensorboard/` of the workdir. Weights & Biases gets the same numbers;
its own variables decide where to: `WANDB_MODE=offline` keeps them in `wandb/`.
"""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ml_collections import ConfigDict

from ocssl_jax.workdir import write


class Board(Protocol):
    """What a dashboard has to be able to do."""

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Show numbers by name, of a stream batch."""

    def close(self) -> None:
        """Finish writing."""


class TensorBoard:
    """Event files, those after `step` of an earlier attempt marked as void."""

    def __init__(self, folder: Path, step: int):
        """Open those of the run in `folder` that stands at `step`."""
        from tensorboardX import SummaryWriter

        place = str(folder / "tensorboard")
        self._writer = SummaryWriter(place, purge_step=step + 1)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Show numbers by name."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Finish writing."""
        self._writer.close()


class WeightsAndBiases:
    """One run of the service a workdir, however often that is resumed."""

    def __init__(self, folder: Path, config: Mapping[str, Any]):
        """Go on with the run of `folder`, or begin it; `config` is shown beside it."""
        import wandb

        file = folder / "wandb" / "id"
        if not file.exists():
            write(file, uuid.uuid4().hex)
        quiet = wandb.Settings(
            silent=True, console="off", disable_code=True, disable_git=True
        )
        self._run = wandb.init(
            project="ocssl_jax",
            name=folder.name,
            id=file.read_text(),
            resume="allow",
            dir=str(folder),
            config=dict(config),
            settings=quiet,
        )

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Show numbers by name; the service leaves out steps that it has."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Hand over what is left."""
        self._run.finish()


def boards(folder: Path, config: ConfigDict, *, step: int) -> list[Board]:
    """The dashboards that `config.log` asks for, of the run that stands at `step`."""
    found: list[Board] = []
    if config.log.tensorboard:
        found.append(TensorBoard(folder, step))
    if config.log.wandb:
        found.append(WeightsAndBiases(folder, config.to_dict()))
    return found
