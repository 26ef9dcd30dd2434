"""The example of a camera, on a video made here."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ocssl_jax import saved

PATH = Path(__file__).parents[1] / "examples" / "camera.py"
SMALL = (
    "--config.backbone.name=mlp",
    "--config.backbone.width=8",
    "--config.augment.name=none",
    "--config.method.projection=8",
    "--config.passes=1",
    "--config.strategy.name=none",
    "--config.stream.image_size=8",
    "--config.stream.batch_size=4",
    "--config.log.every=1",
)


@pytest.fixture(scope="module")
def camera():
    spec = importlib.util.spec_from_file_location("camera_example", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def video(tmp_path):
    """Ten frames of one colour each, more and more red and less and less blue."""
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (48, 32))
    for i in range(10):
        writer.write(np.full((32, 48, 3), (225 - 25 * i, 0, 25 * i), np.uint8))
    writer.release()
    return path


def test_frames_are_red_first_small_and_as_many_as_asked_for(camera, video):
    for every, numbers in ((1, range(10)), (4, (0, 4, 8))):
        found = list(camera.frames(str(video), every=every, size=8))
        assert [f.shape for f in found] == [(8, 8, 3)] * len(numbers)
        reds = [f[..., 0].mean() for f in found]
        blues = [f[..., 2].mean() for f in found]
        np.testing.assert_allclose(reds, [25 * i for i in numbers], atol=6)
        np.testing.assert_allclose(blues, [225 - 25 * i for i in numbers], atol=6)


def test_batches_lose_nothing(camera):
    images = [np.full((1, 1, 1), i) for i in range(7)]
    found = list(camera.batches(iter(images), 3))
    assert [b.ravel().tolist() for b in found] == [[0, 1, 2], [3, 4, 5], [6]]


def test_a_video_is_learnt_and_gone_on_with(camera, video, tmp_path, capsys):
    place = tmp_path / "run"
    for step in (3, 6):
        camera.main([str(video), f"--workdir={place}", *SMALL])
        assert "10 frames learnt" in capsys.readouterr().out
        assert [p.name for p in (place / "checkpoints").iterdir()] == [str(step)]
    assert saved.load(place, None).pixels.shape == (8, 8, 3)


def refused(camera, capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        camera.main([*arguments, *SMALL])
    assert left.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_what_is_not_possible_is_told_in_a_line(camera, tmp_path, capsys, monkeypatch):
    place = f"--workdir={tmp_path / 'run'}"
    assert "--every" in refused(camera, capsys, "0", "--every=0", place)
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert "ocssl_jax[camera]" in refused(camera, capsys, "0", place)
    assert not (tmp_path / "run").exists()


def test_the_documented_command_finds_the_project_s_configs(tmp_path):
    """Python puts the script's folder on its path, not the checkout."""
    alone = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, PATH, "0", "--config.mispelt=1", "--workdir=run"]
    ended = subprocess.run(
        command, cwd=tmp_path, env=alone, capture_output=True, text=True
    )
    assert ended.returncode == 2 and not list(tmp_path.iterdir())
    (line,) = ended.stderr.splitlines()
    assert "config has no field 'mispelt'" in line


def test_no_video_is_told_in_a_line(camera, tmp_path, capfd):
    pytest.importorskip("cv2")
    with pytest.raises(SystemExit):
        camera.main([str(tmp_path / "none.avi"), f"--workdir={tmp_path}/run", *SMALL])
    assert "neither a video nor a camera" in capfd.readouterr().err
    assert not (tmp_path / "run").exists()
