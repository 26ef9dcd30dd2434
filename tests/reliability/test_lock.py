"""A workdir belongs to one process at a time, and to nobody once that one is gone."""

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT

from ocssl_jax import workdir
from ocssl_jax.errors import StorageError, UsageError

HOLD = (
    "import sys, time; from pathlib import Path; from ocssl_jax import workdir\n"
    "with workdir.held(Path(sys.argv[1])): print('held', flush=True); time.sleep(99)"
)


def holder(folder: Path) -> subprocess.Popen:
    """Another process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_another_process_is_noticed_and_its_death_too(tmp_path):
    (tmp_path / "config.json").write_text("mine")
    process = holder(tmp_path)
    try:
        with (
            pytest.raises(UsageError, match="in use by another run") as error,
            workdir.held(tmp_path),
        ):
            raise AssertionError("two processes hold one workdir")
        assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
        assert (tmp_path / "config.json").read_text() == "mine"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    assert (tmp_path / ".lock").exists()  # the file stays, the lock died with its owner
    with workdir.held(tmp_path):
        pass


def test_who_deletes_the_lock_file_frees_nothing(tmp_path):
    process = holder(tmp_path)
    try:
        (tmp_path / ".lock").unlink()
        with pytest.raises(UsageError, match="in use"), workdir.held(tmp_path):
            pass
    finally:
        process.kill()
        process.wait(timeout=30)
    with workdir.held(tmp_path):
        pass


def test_where_no_folder_can_be_locked_the_file_is(tmp_path, monkeypatch):
    """As on some network file systems."""
    lock = fcntl.flock

    def flock(held, how):
        if stat.S_ISDIR(os.fstat(held).st_mode):
            raise OSError(errno.EBADF, "Bad file descriptor")
        lock(held, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        workdir.held(tmp_path),
        pytest.raises(UsageError, match="in use"),
        workdir.held(tmp_path),
    ):
        pass


def test_a_folder_that_is_another_one_by_now_is_noticed(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    place = workdir.Place(folder)
    place.check()
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="moved or deleted"):
        place.check()
    folder.mkdir()
    with pytest.raises(StorageError, match="moved or deleted"):
        place.check()
    folder.rmdir()
    (tmp_path / "elsewhere").rename(folder)
    place.check()


def test_a_lock_file_of_anything_else_is_no_lock(tmp_path):
    (tmp_path / ".lock").write_text("pid 12345 of last year")
    with workdir.held(tmp_path):
        assert (tmp_path / ".lock").read_text() == "pid 12345 of last year"


def test_a_baseline_is_locked_with_its_run(tmp_path):
    """Its folder may be named in a command of its own, so it has its own lock."""
    process = holder(tmp_path / "baselines" / "none")
    try:
        with (
            workdir.held(tmp_path),
            pytest.raises(UsageError, match="in use"),
            workdir.held(tmp_path / "baselines" / "none"),
        ):
            pass
    finally:
        process.kill()
        process.wait(timeout=30)
