"""What the guide says one can do with an encoder can be done."""

import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from finished import finished
from PIL import Image

GUIDE = (Path(__file__).parents[1] / "docs/guides/features.md").read_text()
LINES = re.findall(r"^\S*python -m ocssl_jax\.(embed|export) (.*)$", GUIDE, re.M)


def test_there_are_all_of_them():
    assert [name for name, _ in LINES] == ["embed", "export", "export"]


@pytest.mark.parametrize(("name", "line"), LINES)
@pytest.mark.slow
def test_a_line_of_the_guide_does_what_it_says(name, line, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow" if name == "embed" else "flatbuffers")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    workdir, *rest = shlex.split(line.replace("~", str(tmp_path)))
    finished(Path(workdir), backbone__name="resnet18", backbone__width=4)
    (tmp_path / "pictures").mkdir()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save("pictures/a.png")
    importlib.import_module(f"ocssl_jax.{name}").main([workdir, *rest])
    assert Path(rest[rest.index("--out") + 1]).stat().st_size > 500
