"""A folder that grows is learnt once and in order, whoever is killed meanwhile."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from marks import slow
from PIL import Image

from ocssl_jax import Learner, embed, follow, following, functions
from ocssl_jax.data.folders import picture_of
from ocssl_jax.data.growing import Growing
from ocssl_jax.errors import UsageError
from ocssl_jax.learning import make_learning
from ocssl_jax.report.__main__ import main as report

ROOT = Path(__file__).parents[1]
# As this process compiles, so that the same batches give the same bits.
LIKE_HERE = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}
SMALL = (
    "--config.augment.name=none",
    "--config.backbone.name=mlp",
    "--config.backbone.width=8",
    "--config.method.projection=8",
    "--config.passes=1",
    "--config.strategy.name=er",
    "--config.strategy.replay_size=4",
    "--config.strategy.memory_size=12",
    "--config.stream.image_size=8",
    "--config.stream.batch_size=4",
    "--config.stream.look=0.05",
    "--config.checkpoint.every=2",
    "--config.log.every=1",
)


def add(folder, *names):
    """Pictures that depend on their names alone, arriving in this order."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(list(name.encode()))
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(folder / name)
        time.sleep(0.01)  # file systems tell times in steps of some milliseconds


def names(first, last):
    return [f"{(7 * i) % 100:02d}/{i}.png" for i in range(first, last)]


def run(folder, place, *more):
    follow.main([str(folder), f"--workdir={place}", *SMALL, *more])


def seen(place):
    lines = (place / following.SEEN).read_text().splitlines()
    return [json.loads(line)["files"] for line in lines]


# --- the folder ---


def reader(folder):
    return lambda file: picture_of(folder, file, channels=3, size=8)


def test_pictures_arrive_in_the_order_of_their_times(tmp_path):
    add(tmp_path, "b.png", "c/a.png", "a.png")
    os.utime(tmp_path / "a.png", (1, 1))  # taken long ago, copied here just now
    growing = Growing(tmp_path, ["c/a.png"])
    assert growing.look() == 0  # they might still be written
    assert growing.look() == 2 and growing.look() == 0
    assert [file.path for file in growing.waiting] == ["b.png", "a.png"]
    add(tmp_path, "0.png")
    assert [growing.look(), growing.look()] == [0, 1]
    taken, lost = growing.take(2, reader(tmp_path))
    assert [file.path for file, _ in taken] == ["b.png", "a.png"] and not lost
    growing.put_back(taken)
    taken, _ = growing.take(9, reader(tmp_path))
    assert [file.path for file, _ in taken] == ["b.png", "a.png", "0.png"]
    assert growing.look() == 0


def test_a_file_that_grows_has_not_arrived(tmp_path):
    add(tmp_path, "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    growing = Growing(tmp_path, ["whole.png"])
    with (tmp_path / "part.png").open("wb") as file:
        for byte in range(0, len(data), 64):
            assert growing.look() == 0 and bool(growing.coming) == bool(byte)
            file.write(data[byte : byte + 64])
            file.flush()
    assert [growing.look(), growing.look()] == [0, 1] and not growing.coming
    taken, lost = growing.take(1, reader(tmp_path))
    assert len(taken) == 1 and not lost


def test_a_broken_picture_is_looked_at_again_once_it_changes(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    growing = Growing(tmp_path, [])
    assert [growing.look(), growing.look()] == [0, 1]
    assert growing.take(3, reader(tmp_path)) == ([], ["a.png"])
    assert [growing.look(), growing.look()] == [0, 0] and set(growing.broken)
    add(tmp_path, "a.png")
    assert [growing.look(), growing.look()] == [0, 1]
    taken, lost = growing.take(3, reader(tmp_path))
    assert [file.path for file, _ in taken] == ["a.png"]
    assert not lost and not growing.broken


def test_a_file_is_known_by_its_path(tmp_path):
    """As the help says: under another name it is another, changed it is the same."""
    add(tmp_path, "a.png", "b.png")
    growing = Growing(tmp_path, ["a.png", "b.png"])
    (tmp_path / "a.png").rename(tmp_path / "c.png")
    add(tmp_path, "b.png")
    assert [growing.look(), growing.look()] == [0, 1]
    assert [file.path for file in growing.waiting] == ["c.png"]
    help_text = " ".join(follow.__doc__.split())
    assert "renamed or moved it is learnt again" in help_text


# --- the command ---


def test_a_quiet_folder_is_learnt_and_gone_on_with(tmp_path, capsys):
    pictures, place = tmp_path / "pictures", tmp_path / "run"
    add(pictures, *names(0, 10))
    (pictures / "bad.png").write_bytes(b"no picture")
    run(pictures, place, "--config.stream.quiet=0.5")
    told = capsys.readouterr()
    assert "10 pictures learnt, 1 could not be read" in told.out
    assert "bad.png" in told.err and len(told.err.splitlines()) == 1
    assert [len(batch) for batch in seen(place)] == [4, 4, 2]
    assert [name for batch in seen(place) for name in batch] == names(0, 10)
    add(pictures, *names(10, 13))
    run(pictures, place, "--config.stream.quiet=0.5")
    told = capsys.readouterr()
    assert "resumed after 10 pictures" in told.out and "13 pictures" in told.out
    assert [name for batch in seen(place) for name in batch] == names(0, 13)
    steps = [json.loads(x)["step"] for x in (place / "metrics.jsonl").open()]
    assert steps == [1, 2, 3, 4]
    report([str(place), f"--out={tmp_path / 'report'}"])
    told = capsys.readouterr().out
    assert ", followed" in told and "nfinished" not in told
    embed.main([str(place), str(pictures), f"--out={tmp_path / 'f.npz'}"])
    with np.load(tmp_path / "f.npz") as table:
        assert len(table["feature"]) == 13


class StopsAfter(following.Stop):
    """Asks to stop once so many batches are in the list."""

    def __init__(self, place, batches):
        self._place, self._batches = place, batches

    def seen(self):
        path = self._place / following.SEEN
        lines = path.read_text().splitlines() if path.exists() else []
        return len(lines) >= self._batches


@pytest.mark.slow
def test_stopped_it_saves_what_it_has_learnt_and_goes_on(tmp_path, capsys, monkeypatch):
    pictures, place = tmp_path / "pictures", tmp_path / "run"
    add(pictures, *names(0, 14))
    with monkeypatch.context() as patch:
        patch.setattr(following, "Stop", lambda: StopsAfter(place, 1))
        run(pictures, place)
    assert "stopped after 4 pictures; repeat the command" in capsys.readouterr().out
    run(pictures, place, "--config.stream.quiet=0.5")
    whole = tmp_path / "whole"
    run(pictures, whole, "--config.stream.quiet=0.5")
    assert_same(place, whole, names(0, 14))


def assert_same(place, whole, learnt):
    """Every picture once, in order, and the same bits as without an interruption."""
    assert [name for batch in seen(place) for name in batch] == learnt
    for name in (following.SEEN, "metrics.jsonl", "encoder/seed_0.safetensors"):
        assert (place / name).read_bytes() == (whole / name).read_bytes(), name


GONE = ("observe", "export")


class Gone(BaseException):
    """As abrupt as a kill: nothing follows."""


@pytest.mark.parametrize("step", ["save", *slow(*GONE)])
def test_gone_before_any_step_it_ends_with_the_same_bits(tmp_path, monkeypatch, step):
    pictures, whole = tmp_path / "pictures", tmp_path / "whole"
    add(pictures, *names(0, 14))
    run(pictures, whole, "--config.stream.quiet=0.2")
    place, do = tmp_path / "run", getattr(Learner, step)
    for last in (0, 1):  # calls that it gets to do
        calls = []

        def once(*given, last=last, calls=calls):
            if len(calls) == last:
                raise Gone
            calls.append(1)
            return do(*given)

        with monkeypatch.context() as patch:
            patch.setattr(Learner, step, once)
            with pytest.raises(Gone):
                run(pictures, place, "--config.stream.quiet=0.2")
    run(pictures, place, "--config.stream.quiet=0.2")
    assert_same(place, whole, names(0, 14))


@pytest.mark.timeout(280)
def test_killed_it_learns_no_picture_twice_and_loses_none(tmp_path, capsys):
    pictures, place = tmp_path / "pictures", tmp_path / "run"
    add(pictures, *names(0, 13))
    started = start(pictures, place)
    try:
        wait_for(lambda: batches(place) >= 3, started)  # one after the checkpoint
    finally:
        started.kill()
        started.communicate()
    assert started.returncode == -signal.SIGKILL
    add(pictures, *names(13, 18))
    run(pictures, place, "--config.stream.quiet=0.5")
    whole = tmp_path / "whole"
    run(pictures, whole, "--config.stream.quiet=0.5")
    assert_same(place, whole, names(0, 18))


def start(pictures, place):
    """The command as a process of its own."""
    command = [sys.executable, "-m", "ocssl_jax.follow", str(pictures)]
    return subprocess.Popen(
        [*command, f"--workdir={place}", *SMALL],
        cwd=ROOT,
        env=LIKE_HERE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def batches(place):
    path = place / following.SEEN
    return len(path.read_text().splitlines()) if path.exists() else 0


def wait_for(moment, process):
    end = time.monotonic() + 200
    while not moment():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
def test_sigterm_saves_and_leaves_with_0(tmp_path):
    pictures, place = tmp_path / "pictures", tmp_path / "run"
    add(pictures, *names(0, 4))
    started = start(pictures, place)
    try:
        wait_for(lambda: batches(place) >= 1, started)
        started.send_signal(signal.SIGTERM)
        out, _ = started.communicate(timeout=100)
    finally:
        started.kill()
    assert started.returncode == 0
    assert "stopped after 4 pictures; repeat the command to go on" in out
    assert (place / "encoder" / "encoder.json").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--config.stream.image_size=0",), "image_size must be at least 1"),
        (("--config.seeds=0,1",), "one seed here"),
        (("--config.stream.quiet=-1",), "stream.quiet must be 0 or more"),
        (("--config.stream.look=0",), "stream.look must be above 0"),
        (("--config.strategy.name=best",), "strategy.name must be one of"),
        (("--quiet=3",), "unknown argument '--quiet=3'"),
        (("--config=none.py",), "'none.py' not found"),
        (
            ("--config.method.name=supervised", "--config.strategy.name=er"),
            "learns from labels",
        ),
    ],
)
def test_what_is_not_possible_is_told_in_a_line(tmp_path, capsys, more, words):
    add(tmp_path / "pictures", "a.png")
    refused(capsys, words, tmp_path / "pictures", tmp_path / "run", *more)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--config.method.name=clip",), "config.method.clip"),
        (("--config.method.name=mae",), "config.method.mae: needs a ViT"),
        (("--config.method.pretrained=no.safetensors",), "there is no file"),
        (("--config.backbone.pretrained=no.safetensors",), "there is no file"),
        (("--config.strategy.name=icarl",), "icarl needs a supervised method"),
    ],
)
def test_what_only_building_it_tells_leaves_no_workdir(tmp_path, capsys, more, words):
    """Else the workdir would refuse the corrected command as one of another config."""
    add(tmp_path / "pictures", "a.png")
    refused(capsys, words, tmp_path / "pictures", tmp_path / "run", *more)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("function", ["init", "step"])
def test_what_only_tracing_it_tells_leaves_no_workdir(
    tmp_path, capsys, monkeypatch, function
):
    def refuse(*given):
        raise UsageError("the parts do not fit")

    def made(*given, **how):
        return make_learning(*given, **how)._replace(**{function: refuse})

    monkeypatch.setattr(functions, "make_learning", made)
    add(tmp_path / "pictures", "a.png")
    refused(capsys, "do not fit", tmp_path / "pictures", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_listed_leaves_no_workdir(
    tmp_path, capsys, monkeypatch
):
    add(tmp_path / "pictures", "a.png")

    def denied(path):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr(following.os, "scandir", denied)
        refused(capsys, "cannot be listed", tmp_path / "pictures", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def refused(capsys, words, *arguments):
    with pytest.raises(SystemExit) as left:
        run(*arguments)
    assert left.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_workdir_of_another_config_or_without_its_list_is_refused(tmp_path, capsys):
    pictures, place = tmp_path / "pictures", tmp_path / "run"
    refused(capsys, "there is no folder", pictures, place)
    add(pictures, *names(0, 4))
    run(pictures, place, "--config.stream.quiet=0.05", "--config.stream.look=0.3")
    assert seen(place) == [names(0, 4)]
    other = "--config.passes=3"
    refused(capsys, "holds a run with another config", pictures, place, other)
    (place / following.SEEN).unlink()
    refused(capsys, "of each of the 1 stream batches", pictures, place)


def test_a_loss_that_is_not_finite_ends_it_with_the_last_checkpoint(tmp_path, capsys):
    pictures, place = tmp_path / "pictures", tmp_path / "run"
    add(pictures, *names(0, 30))
    with pytest.raises(SystemExit) as left:
        run(pictures, place, "--config.optimizer.learning_rate=1e30")
    assert left.value.code == 1
    assert "at stream batch" in capsys.readouterr().err
