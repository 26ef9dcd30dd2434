"""The folder of one run: what lies where, who may write, and nothing half-written."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ocssl_jax import settings
from ocssl_jax.errors import StorageError, UsageError
from ocssl_jax.replacing import replacing

SEEN = "seen.jsonl"  # in the folder of who follows another: what arrived from there
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
# What tells data apart -> the field of the folder in which they lie.
CONTENTS = {"data": "stream.data_dir", "probe_data": "probe.data_dir"}


def write(path: Path, text: str) -> None:
    """Replace the file in one go: a reader sees the old text or the new.

    Bytes in the names of files that are no text are escaped.
    """
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file in one go: a reader sees the old content or the new."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the workdir for this process; the lock dies with the process.

    The folder itself is locked and a file in it: whoever deletes that file frees
    nothing, and network file systems may lock files only.

    Raises:
      UsageError: if another process holds it.
    """
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
            stack.callback(os.close, lock)
            itself = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, itself)
        except OSError as error:
            raise UsageError(
                f"--workdir {folder} cannot be written to ({error.strerror})"
            ) from error
        for held in (itself, lock):
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(
                    f"{folder} is in use by another run; wait for it or choose another "
                    f"--workdir"
                ) from error
            except OSError:
                if held == lock:
                    raise
        yield


class Place:
    """A workdir as a run found it, which may be deleted or moved while it goes on."""

    def __init__(self, folder: Path):
        """Remember which folder `folder` is."""
        self._folder, self._known = folder, identity(folder)

    def check(self) -> None:
        """Write nothing into a folder that another run may have made in its place.

        Raises:
          StorageError: if it is not the same folder any more.
        """
        if identity(self._folder) != self._known:
            raise StorageError(
                f"{self._folder} was moved or deleted while this run went on; bring it "
                f"back to go on from what it holds, or start over in another --workdir"
            )


def identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from others, whatever its name; None if there is none."""
    try:
        about = folder.stat()
    except FileNotFoundError:
        return None
    return about.st_dev, about.st_ino


def check(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a workdir that cannot take this run's results.

    Raises:
      UsageError: if `folder` is a file, holds another config, or something that is no
        run at all.
    """
    try:
        folder.stat()
    except FileNotFoundError:
        return
    except OSError as error:  # such as a name that is too long
        raise UsageError(
            f"--workdir {folder} cannot be used ({error.strerror})"
        ) from error
    if not folder.is_dir():
        raise UsageError(f"--workdir {folder} is a file, a folder is needed")
    path = folder / "config.json"
    if not path.exists():
        if any(p.name != ".lock" and p.suffix != ".draft" for p in folder.iterdir()):
            raise UsageError(
                f"--workdir {folder} holds files but no config.json; "
                f"choose an empty or new folder, or bring the file back"
            )
        return
    changed = settings.changed(read_json(path, needs="config")["config"], config)
    if changed:
        raise UsageError(
            f"{folder} holds a run with another config ({changed}); "
            f"choose another --workdir or repeat that run's command"
        )


def check_data(
    folder: Path, known: Mapping[str, Any], contents: Mapping[str, str]
) -> None:
    """Refuse other data than those that the results in `folder` are of.

    Args:
      folder: of a run, or of an evaluation.
      known: what was written there, as `config.json` has it; older versions wrote
        nothing of the data, which are then taken for the same.
      contents: as `Experiment.contents` gives it.

    Raises:
      UsageError: naming the field that says where the data lie.
    """
    for name, field in CONTENTS.items():
        old, new = known.get(name), contents.get(name)
        if old and new and old != new:
            raise UsageError(
                f"{folder} holds results on other data: the classes, labels or images "
                f"found by {field} differ from those it was started with; bring these "
                f"back, or move that folder away"
            )


def config_of(folder: Path) -> ConfigDict:
    """The resolved config of the run in `folder`, finished or not.

    Raises:
      UsageError: if there is no run, or its config cannot be read.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise UsageError(f"{folder} is no run's workdir: it holds no config.json")
    fields = settings.filled(read_json(path, needs="config")["config"])
    try:
        return settings.from_json(fields)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def describe_once(
    folder: Path, config: Mapping[str, Any], overrides: Mapping[str, Any]
) -> None:
    """Write `config.json` where there is none; refuse a folder of another config."""
    path = folder / "config.json"
    if path.exists():
        return check(folder, config)
    about = describe(config, overrides)
    write(path, json.dumps(about, indent=1) + "\n")


def describe(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What `config.json` says of a run: settings, versions, device, commit."""
    import jax

    return {
        "config": config,
        "overrides": dict(overrides),
        "python": sys.version.split()[0],
        "versions": {name: version(name) for name in PACKAGES},
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "platform": jax.default_backend(),
        "commit": commit(),
    }


def read_json(path: Path, *, needs: str) -> dict[str, Any]:
    """The content of a JSON file of the run, an object with the field `needs`.

    Raises:
      UsageError: if the file is damaged.
      OSError: if it may not be read, which says nothing of what it holds.
    """
    remedy = "delete it and repeat the command that made it"
    if path.name == "config.json":  # the rest of its folder is worth nothing without
        remedy = f"bring the file back, or delete all of {path.parent} to start over"
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError, FileNotFoundError, IsADirectoryError) as error:
        raise UsageError(f"{path} is damaged; {remedy}") from error
    if not isinstance(content, dict) or needs not in content:
        raise UsageError(f"{path} is damaged; {remedy}")
    return content


def commit() -> str | None:
    """The git commit of the code that runs, None outside a checkout."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "-C", here, "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
