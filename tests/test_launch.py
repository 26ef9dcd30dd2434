"""The command line as a person meets it: real processes, words, exit codes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ocssl_jax.strategies import STRATEGIES

ROOT = Path(__file__).parents[1]


def launch(*args, cwd=ROOT, env=None):
    return subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), *args],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env={**os.environ, **(env or {})},
    )


def one_line(result):
    """The one line of a refusal: exit code 2, nothing on stdout, no traceback."""
    assert result.returncode == 2, result.stderr
    lines = [x for x in result.stderr.splitlines() if x.strip()]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("launch.py: ")
    return lines[0]


def test_help_is_quick_and_exits_0():
    began = time.monotonic()
    result = launch("--help")
    assert result.returncode == 0
    assert "--workdir" in result.stdout and "--config" in result.stdout
    # Loose on purpose: a time here only says that jax is not imported.
    assert time.monotonic() - began < 20
    assert "jax" not in imported("--help")


def imported(flag):
    code = (
        f"import sys, runpy; sys.argv = ['launch.py', {flag!r}]\n"
        "try: runpy.run_path('launch.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('MODULES', *sorted(m for m in sys.modules if '.' not in m))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    return result.stdout.split("MODULES")[1].split()


# `tests/test_configs.py` and `tests/reliability` try the like of these in no time.
MORE = [
    (["--config=configs/climb_cifar100.py:33"], ["20, 50, 100"]),
    (["--config.stream.tasks=3"], ["10 classes make 1, 2, 5, 10 equal tasks"]),
    (
        ["--config.stream.kind=blured"],
        ["class, irregular, blurred, domain, permuted, iid"],
    ),
    (["--config.seeds=0,0"], ["differ"]),
    (["--config.stream.taks=3"], ["did you mean 'tasks'"]),
    (["--config.seeds[0]=5"], ["seeds[0]"]),
    (["--config.stream.batch_size=100000"], ["at most 1299"]),
    (["--config.method.simclr.temperature=0"], ["temperature must be above 0"]),
    (["--config.probe.names=ridge,knnn"], ["linear, linear_sgd, ridge, knn", "'knnn'"]),
    (["--config.stream.val_ratio=0"], ["stream.val_ratio"]),
]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--config.optimizer.lrr=0.5"], ["no field 'lrr'", "configs/default.py"]),
        (["--config.nogroup.x=1"], ["config has no field 'nogroup'"]),
        (["--config.passes=2.5"], ["passes", "2.5"]),
        (["--config=nosuch.py"], ["nosuch.py"]),
        (["--confg=x"], ["confg"]),
        (["stray"], ["stray"]),
        (["--config.strategy.name=replya"], [", ".join(STRATEGIES), "replya"]),
        (["--config.stream.data_dir=/dev/null"], ["/dev/null"]),
        (["--workdir=/proc/nowhere"], ["/proc/nowhere"]),
        *(pytest.param(*row, marks=pytest.mark.slow) for row in MORE),
    ],
    ids=lambda x: x[0] if isinstance(x, list) else None,
)
def test_wrong_input_gets_one_line_and_writes_nothing(tmp_path, args, words):
    workdir = tmp_path / "run"
    data = [f"--config.stream.data_dir={tmp_path / 'data'}"]
    result = launch(*data, f"--workdir={workdir}", *args)
    line = one_line(result)
    for word in words:
        assert word in line
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def get_config(: pass", "SyntaxError"),
        ("import nosuchmodule", "ModuleNotFoundError"),
        ("x = 1", "KeyError: 'get_config'"),
        ("def get_config(): return 1 / 0", "ZeroDivisionError"),
        ("def get_config(): return None", "must return a ConfigDict"),
        (
            "from configs import default\n"
            "def get_config():\n"
            "    config = default.get_config()\n"
            "    del config['probe']\n"
            "    return config\n",
            "lacks the field probe.",
        ),
    ],
)
def test_a_config_file_that_is_no_config(tmp_path, text, words):
    file = tmp_path / "mine.py"
    file.write_text(text)
    result = launch(f"--config={file}", f"--workdir={tmp_path / 'run'}", cwd=tmp_path)
    assert words in one_line(result)
    assert not (tmp_path / "run").exists()


def test_a_missing_data_set_names_the_folder_and_the_command(tmp_path):
    result = launch(
        "--config=configs/small_cifar100.py",
        f"--config.stream.data_dir={tmp_path}",
        f"--workdir={tmp_path / 'run'}",
    )
    line = one_line(result)
    assert str(tmp_path) in line
    assert "python -m ocssl_jax.data.prepare cifar100" in line
    assert not (tmp_path / "run").exists()


def test_a_corrupt_cache_file_is_named(tmp_path):
    from ocssl_jax.data import load

    load("digits", data_dir=tmp_path)
    file = next((tmp_path / "ocssl_cache").rglob("train_image.npy"))
    file.write_bytes(file.read_bytes()[:-100])
    result = launch(
        f"--config.stream.data_dir={tmp_path}", f"--workdir={tmp_path / 'run'}"
    )
    assert str(file) in one_line(result)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_workdirs_that_cannot_be_used(tmp_path):
    data = f"--config.stream.data_dir={tmp_path / 'data'}"
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    assert "no config.json" in one_line(launch(data, f"--workdir={other}"))
    assert "is a file" in one_line(launch(data, f"--workdir={other / 'thesis.txt'}"))
    assert (other / "thesis.txt").read_text() == "mine"

    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "config.json").write_text(json.dumps({"config": {"passes": 99}}))
    assert "another config" in one_line(launch(data, f"--workdir={strange}"))
    for text in ("{", "[]", "{}"):
        (strange / "config.json").write_text(text)
        line = one_line(launch(data, f"--workdir={strange}"))
        assert "config.json is damaged; bring the file back, or delete all of" in line


def test_neither_tensorflow_nor_torch_is_ever_imported(tmp_path):
    code = (
        "import sys\n"
        "from ocssl_jax import experiment\n"
        "from ocssl_jax.data import load\n"
        f"load('digits', data_dir={str(tmp_path)!r})\n"
        "bad = {'tensorflow', 'torch'} & set(sys.modules)\n"
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
