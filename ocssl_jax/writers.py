"""The log of a run: `metrics.jsonl`, and TensorBoard where asked for."""

import json
import math
from pathlib import Path
from typing import Any

from ocssl_jax.errors import UsageError
from ocssl_jax.workdir import write


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`; a last line cut short by a kill is left out.

    Raises:
      UsageError: if any other line is no JSON.
    """
    if not path.exists():
        return []
    records = []
    lines = path.read_text().splitlines(keepends=True)
    for i, line in enumerate(lines):
        try:
            record = json.loads(line)
            records.append(record | {"step": int(record["step"])})
        except (ValueError, TypeError, KeyError) as error:
            if i == len(lines) - 1 and not line.endswith("\n"):
                break
            raise UsageError(f"{path}, line {i + 1}: damaged, no record") from error
    return records


class History:
    """Appends records to `metrics.jsonl`, each step once however often resumed."""

    def __init__(self, folder: Path, *, step: int, tensorboard: bool):
        """Open the log of a run that stands at `step`, dropping what came after it."""
        path = folder / "metrics.jsonl"
        lines = [_line(r) for r in read(path) if r["step"] <= step]
        write(path, "".join(lines))
        self._file = path.open("a")
        self._board = _board(folder, step) if tensorboard else None

    def append(self, record: dict[str, Any]) -> None:
        """Write one record; numbers that are not finite become null."""
        self._file.write(_line(record))
        self._file.flush()
        if self._board:
            for name, value in record.items():
                if isinstance(value, int | float) and name != "step":
                    self._board.add_scalar(name, value, record["step"])

    def close(self) -> None:
        """Finish writing."""
        self._file.close()
        if self._board:
            self._board.close()


def _line(record: dict[str, Any]) -> str:
    return json.dumps(_finite(record)) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _board(folder: Path, step: int) -> Any:
    from tensorboardX import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
