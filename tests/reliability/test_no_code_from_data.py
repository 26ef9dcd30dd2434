"""Data, caches, checkpoints and weights never run code; config files do, and say so."""

import ast
import contextlib
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from kill_config import get_config
from processes import ROOT

from ocssl_jax import dotted, evaluate, experiment, settings
from ocssl_jax.checkpoint import Checkpoints
from ocssl_jax.data import load
from ocssl_jax.data.errors import DataError
from ocssl_jax.errors import UsageError
from ocssl_jax.pretrained import read

SOURCES = [
    ROOT / "launch.py",
    *(
        p
        for part in ("ocssl_jax", "configs", "benchmarks")
        for p in (ROOT / part).rglob("*.py")
    ),
]
UNPICKLE = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "jsonpickle",
    "yaml",
}
RUNS = {"eval", "exec", "compile", "__import__"}
# Who may run a Python file: configs are such files.
READS_CONFIGS = {"config_files.py", "settings.py"}


def calls(tree):
    """Every call in a module: its function's last name, what that is of, keywords."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            f = node.func
            owner = getattr(f.value, "id", "?") if isinstance(f, ast.Attribute) else ""
            name = f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "")
            yield owner, name, {k.arg: k.value for k in node.keywords}


def offences(text: str, name: str) -> list[str]:
    """What in a module's text could run code that some file holds."""
    tree, found = ast.parse(text), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [getattr(node, "module", "") or "", *(a.name for a in node.names)]
            bad = {m.split(".")[0] for m in modules} & UNPICKLE
            found += [f"imports {m}" for m in bad]
            if "runpy" in modules and name not in READS_CONFIGS:
                found.append("imports runpy")
    for owner, called, keywords in calls(tree):
        if not owner and called in RUNS:
            found.append(f"calls {called}")
        if owner in ("np", "numpy") and called in ("load", "save", "savez"):
            allowed = keywords.get("allow_pickle")
            if not (isinstance(allowed, ast.Constant) and allowed.value is False):
                found.append(f"calls np.{called} without allow_pickle=False")
        if owner == "torch" and called == "load":
            found.append("calls torch.load")
    return found


def test_no_module_can_run_what_a_file_holds():
    found = {str(p.relative_to(ROOT)): offences(p.read_text(), p.name) for p in SOURCES}
    assert len(found) > 150
    assert {name: bad for name, bad in found.items() if bad} == {}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("import pickle", "imports pickle"),
        ("from cloudpickle import loads", "imports cloudpickle"),
        ("np.load(p)", "calls np.load without allow_pickle=False"),
        ("np.load(p, allow_pickle=True)", "calls np.load without allow_pickle=False"),
        ("eval(x)", "calls eval"),
        ("import runpy", "imports runpy"),
        ("torch.load(p)", "calls torch.load"),
    ],
)
def test_the_search_finds_what_it_looks_for(text, what):
    assert offences(text, "other.py") == [what]
    assert offences("np.load(p, allow_pickle=False)", "other.py") == []


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, mark: Path):
        self.mark = str(mark)

    def __reduce__(self):
        return (open, (self.mark, "w"))


@pytest.fixture
def mark(tmp_path):
    path = tmp_path / "went-off"
    yield path
    assert not path.exists()


def test_the_bomb_works(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "mark"))).close()
    assert (tmp_path / "mark").exists()


def planted(path: Path, mark: Path) -> None:
    """Put a bomb into a file: an array of objects, or a plain pickle."""
    if path.suffix == ".npy":
        np.save(path, np.array([Bomb(mark)], object), allow_pickle=True)
    else:
        path.write_bytes(pickle.dumps(Bomb(mark)))


def test_a_bomb_in_every_file_of_a_data_set(tmp_path, mark):
    good, bad = tmp_path / "good", tmp_path / "bad"
    load("digits", data_dir=good)
    files = sorted(p.relative_to(good) for p in good.rglob("*") if p.is_file())
    assert len(files) > 8
    for file in files:
        shutil.copytree(good, bad)
        if "ocssl_cache" not in file.parts:
            shutil.rmtree(bad / "ocssl_cache")
        planted(bad / file, mark)
        with pytest.raises(DataError):
            load("digits", data_dir=bad)
        shutil.rmtree(bad)


@pytest.mark.parametrize("key", ["pythonClassName", "python_class_name", "type"])
def test_a_data_set_cannot_choose_which_class_is_imported(tmp_path, key):
    load("digits", data_dir=tmp_path)
    shutil.rmtree(tmp_path / "ocssl_cache")
    (path,) = tmp_path.rglob("features.json")
    content = json.loads(path.read_text())
    content["featuresDict"]["features"]["image"][key] = "antigravity.fly"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"names the class antigravity\.fly"):
        load("digits", data_dir=tmp_path)


@pytest.mark.slow
def test_a_bomb_in_every_file_of_a_run(tmp_path, mark, capsys):
    config = get_config("none-simclr")
    for name, value in {
        "stream.data_dir": str(tmp_path / "data"),
        "stream.limit": 2,
        "seeds": (0,),
        "baselines": (),
        "probe.names": ("ridge",),
    }.items():
        dotted.put(config, name, value)
    config = settings.resolve(config, {})
    run, bad = tmp_path / "run", tmp_path / "bad"
    experiment.run(config, run, {})
    files = [p.relative_to(run) for p in run.rglob("*") if p.is_file()]
    for file in (f for f in files if f.suffix == ".safetensors"):
        shutil.copytree(run, bad)
        planted(bad / file, mark)
        with contextlib.suppress(SystemExit):  # it judges the others, or refuses
            evaluate.main([str(bad), "--probe=knn"])
        shutil.rmtree(bad)
        planted(tmp_path / "net.safetensors", mark)
        with pytest.raises(UsageError):
            read(tmp_path / "net.safetensors")
    (run / "summary.json").unlink()
    shutil.copytree(run, bad)
    saved = [p for p in (bad / "checkpoints").rglob("*") if p.is_file()]
    for path in saved:
        planted(path, mark)
    with pytest.raises(UsageError, match="cannot be restored"):
        experiment.run(config, bad, {})
    for name in ("config.json", "accuracy.csv"):
        shutil.rmtree(bad)
        shutil.copytree(run, bad)
        planted(bad / name, mark)
        with pytest.raises(UsageError, match=name):
            experiment.run(config, bad, {})
    capsys.readouterr()
    Checkpoints(run / "checkpoints", keep=1).close()


def test_the_readme_says_that_configs_are_code():
    words = " ".join((ROOT / "README.md").read_text().split())
    assert (
        "Config files are Python and are run: use only files that you trust." in words
    )
