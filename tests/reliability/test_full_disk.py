"""A disk that fails amid a run: one line, nothing lost, and on it goes."""

import contextlib
import ctypes
import errno
import io
import os
import resource
import signal
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from kill_config import get_config
from marks import slow

from ocssl_jax import commandline, dotted, experiment, settings, workdir
from ocssl_jax.errors import StorageError
from ocssl_jax.stop import Stop

SAVES = "checkpoints"
TABLES = ("accuracy.csv", "validation.csv", "metrics.jsonl")


def config_for(place):
    config = get_config("er-simclr")
    for name, value in {
        "stream.data_dir": str(place / "data"),
        "stream.limit": 9,
        "checkpoint.keep": 9,
        "baselines": (),
        "probe.names": ("ridge",),
    }.items():
        dotted.put(config, name, value)
    return settings.resolve(config, {})


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Holds `whole`, a run that nothing disturbed."""
    place = tmp_path_factory.mktemp("disk")
    experiment.run(config_for(place), place / "whole", {})
    return place


def attempt(place: Path, folder: Path) -> str:
    """What a launch says that finds the disk full; '' if it got to the end."""
    said = io.StringIO()
    try:
        with redirect_stderr(said), commandline.ending("launch.py", folder):
            experiment.run(config_for(place), folder, {})
    except SystemExit as left:
        assert left.code == 1
        (line,) = said.getvalue().splitlines()
        assert line.startswith("launch.py: ")
        return line
    return ""


def whole_steps(folder: Path) -> list[int]:
    """Checkpoints that count as whole."""
    found = (folder / SAVES).glob("[0-9]*")
    return sorted(int(p.name) for p in found if p.name.isdecimal())


def assert_same(ours: Path, theirs: Path) -> None:
    names = [*TABLES, *(p.relative_to(theirs) for p in theirs.rglob("*.safetensors"))]
    for name in names:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    assert (ours / "summary.json").exists()


@contextlib.contextmanager
def largest_file(size: int):
    """A quota of this process: no file may grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


SETTINGS, CHECKPOINT = 3000, 20_000  # bytes too few for the largest file of each


@pytest.mark.parametrize(
    ("size", "file"), [(CHECKPOINT, "checkpoints"), *slow((SETTINGS, "config.json"))]
)
def test_a_quota_is_told_and_loses_nothing(place, tmp_path, size, file):
    folder = tmp_path / "run"
    with largest_file(size):
        line = attempt(place, folder)
    assert os.strerror(errno.EFBIG) in line
    assert (folder / file).exists() == (size == CHECKPOINT)
    assert not whole_steps(folder)
    assert attempt(place, folder) == ""
    assert_same(folder, place / "whole")


def test_a_file_that_cannot_be_replaced_stays(tmp_path):
    path = tmp_path / "accuracy.csv"
    workdir.write(path, "old\n")
    with largest_file(100), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        workdir.write(path, "new\n" * 100)
    assert path.read_text() == "old\n"


def test_stopped_is_not_said_of_what_could_not_be_saved(place, tmp_path):
    """Checkpoints are written in the background, and may fail while a run leaves."""

    class Early(Stop):
        calls = 0

        def seen(self):
            Early.calls += 1
            return Early.calls > 2  # not before the first stream batch

    folder = tmp_path / "run"
    failed = pytest.raises(StorageError, match="the last good one is none")
    with largest_file(CHECKPOINT), failed:
        experiment.run(config_for(place), folder, {}, Early())
    assert whole_steps(folder) == []


def test_nothing_is_written_to_what_took_the_place_of_a_workdir(place, tmp_path):
    folder, moved = tmp_path / "run", tmp_path / "moved"

    class Mover(Stop):
        def seen(self):
            if (folder / "metrics.jsonl").exists() and not moved.exists():
                folder.rename(moved)
                folder.mkdir()
            return False

    with pytest.raises(StorageError, match="moved or deleted"):
        experiment.run(config_for(place), folder, {}, Mover())
    assert list(folder.iterdir()) == []
    folder.rmdir()
    moved.rename(folder)
    assert attempt(place, folder) == ""
    assert_same(folder, place / "whole")


@pytest.fixture
def small_disk(tmp_path):
    """Make a file system of that many bytes; skipped where this is not allowed."""
    folder, libc = tmp_path / "disk", ctypes.CDLL(None, use_errno=True)
    folder.mkdir()

    def sized(size: int, again: bool = False) -> Path:
        flags = 32 if again else 0  # MS_REMOUNT
        options = f"size={size}".encode()
        if libc.mount(b"tmpfs", bytes(folder), b"tmpfs", flags, options):
            reason = os.strerror(ctypes.get_errno())
            pytest.skip(f"no file system can be mounted here ({reason})")
        return folder / "run"

    yield sized
    libc.umount2(bytes(folder), 2)  # MNT_DETACH: threads of a failed save hold files


def used(folder: Path) -> int:
    return sum(-(-p.stat().st_size // 4096) * 4096 for p in folder.rglob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
def test_a_full_disk_is_told_and_loses_nothing(place, small_disk, share):
    enough = used(place / "whole")
    folder = small_disk(int(share * enough))
    line = attempt(place, folder)
    assert "No space left on device" in line or "RESOURCE_EXHAUSTED" in line
    saved = whole_steps(folder)
    again = attempt(place, folder)  # hardly more room: told again, nothing is lost
    assert again and set(saved) <= set(whole_steps(folder))
    saved = whole_steps(folder)
    small_disk(4 * enough, again=True)
    assert attempt(place, folder) == ""
    assert set(saved) <= set(whole_steps(folder))
    assert_same(folder, place / "whole")
