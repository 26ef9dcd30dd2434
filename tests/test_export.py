"""Exported encoders are the encoder: timm's features, and a program that runs alone."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from finished import finished
from safetensors import safe_open
from safetensors.numpy import load_file
from timm_features import CASES, checksums, network, variables_of

from ocssl_jax import export, saved
from ocssl_jax.pretrained import pretrained
from ocssl_jax.to_torch import recipe, to_torch

GOLDEN = np.load(Path(__file__).parent / "golden" / "timm_features.npz")


@pytest.mark.parametrize("case", CASES)
def test_golden_features_of_timm_on_the_exported_tensors(case):
    module, images = network(case)
    variables = variables_of(module, images)
    tensors = to_torch(module, variables)
    given = json.loads(str(GOLDEN[f"{case}_tensors"]))
    assert checksums(tensors) == given
    assert recipe(module, images.shape[3]) == str(GOLDEN[f"{case}_recipe"])
    got = jax.jit(lambda v, x: module.apply(v, x, train=False))(variables, images)
    scale = np.abs(GOLDEN[case]).max()
    np.testing.assert_allclose(got, GOLDEN[case], atol=2e-5 * scale)


def exported(capsys, *arguments):
    export.main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        exported(capsys, *arguments)
    assert left.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_a_file_for_torch_says_what_it_is_of_and_starts_a_run(tmp_path, capsys):
    """What is written for torch is read as torch's files are: nothing is lost."""
    fields = {"backbone__name": "resnet18", "backbone__width": 4}
    _, variables = finished(tmp_path / "run", **fields)
    out = tmp_path / "net.safetensors"
    told = exported(capsys, tmp_path / "run", "--to=torch", f"--out={out}", "--seed=3")
    assert "timm has no model for them: a ResNet 4 channels wide" in told
    assert f'load_state_dict(safetensors.torch.load_file("{out}"))' in told
    with safe_open(out, "numpy") as file:
        assert file.metadata()["model"] in told
    assert load_file(out)["layer2.0.downsample.0.weight"].shape == (8, 4, 1, 1)
    module = saved.load(tmp_path / "run", 3).module
    again = pretrained(str(out), module, shape=(8, 8, 3)).variables
    for part in ("params", "batch_stats"):
        jax.tree.map(np.testing.assert_array_equal, again[part], variables[3][part])


LOADED = """
import sys
import jax
import numpy as np
encode = jax.export.deserialize(open(sys.argv[1], "rb").read()).call
images = np.load(sys.argv[2])
np.save(sys.argv[3], encode(images))
np.testing.assert_allclose(encode(images[:1]), encode(images)[:1], atol=1e-5)
assert not any(name.startswith(("ocssl", "flax")) for name in sys.modules)
"""


OTHERS = (
    {"backbone__name": "resnet18", "backbone__width": 4, "side": 16},
    {"backbone__name": "reduced_resnet18", "backbone__width": 4, "side": 32},
    {"precision": "bfloat16", "backbone__name": "convnet", "side": 16},
)


@pytest.mark.parametrize(
    "fields",
    [
        {"backbone__name": "vit_tiny", "backbone__width": 12, "backbone__depth": 1},
        *(pytest.param(fields, marks=pytest.mark.slow) for fields in OTHERS),
    ],
    ids=["vit", "resnet", "windows", "bfloat16"],
)
def test_a_program_gives_the_encoders_features_of_any_number(fields, tmp_path, capsys):
    pytest.importorskip("flatbuffers")
    run, out = tmp_path / "run", tmp_path / "net.stablehlo"
    learning, variables = finished(run, **fields)
    told = exported(capsys, run, "--to=stablehlo", f"--out={out}")
    assert "jax.export.deserialize" in told
    program = jax.export.deserialize(bytearray(out.read_bytes()))
    side = fields.get("side", 8)
    rng = np.random.default_rng(0)
    near = 0.05 if fields.get("precision") == "bfloat16" else 1e-5  # of the largest
    for n in (1, 7):
        images = rng.integers(0, 256, (n, side, side, 3), np.uint8)
        want = np.asarray(learning.encode(variables[0], images))
        got = np.asarray(program.call(images))
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, atol=near * np.abs(want).max())
    assert set(program.platforms) == {"cpu", "cuda", "rocm", "tpu"}


def test_a_program_runs_without_this_library(tmp_path, capsys):
    pytest.importorskip("flatbuffers")
    run, out = tmp_path / "run", tmp_path / "net.stablehlo"
    learning, variables = finished(run)
    exported(capsys, run, "--to=stablehlo", f"--out={out}")
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    np.save(tmp_path / "images.npy", images)
    files = [out, tmp_path / "images.npy", tmp_path / "features.npy"]
    subprocess.run([sys.executable, "-c", LOADED, *files], check=True)
    want = learning.encode(variables[0], images)
    np.testing.assert_allclose(np.load(files[2]), want, atol=1e-5)


def test_what_is_not_possible_is_told_in_a_line(tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    finished(run)  # a perceptron
    line = refused(capsys, run, "--to=onnx", f"--out={tmp_path / 'a.onnx'}")
    assert "--to must be one of torch, stablehlo, got 'onnx'" in line
    line = refused(capsys, run, "--to=torch", f"--out={tmp_path / 'a.pt'}")
    assert "named *.safetensors" in line
    line = refused(capsys, run, "--to=torch", f"--out={tmp_path / 'a.safetensors'}")
    assert "a Mlp: --to stablehlo takes any" in line
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    line = refused(capsys, run, "--to=stablehlo", f"--out={tmp_path / 'a.stablehlo'}")
    assert "pip install 'ocssl_jax[stablehlo]'" in line
    assert "workdir" in refused(
        capsys, tmp_path, "--to=torch", f"--out={tmp_path / 'a.safetensors'}"
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]
