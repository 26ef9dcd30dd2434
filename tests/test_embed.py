"""Features of a folder are those of its pictures, and a bad one harms no other."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from finished import finished
from PIL import Image

from ocssl_jax import embed, embedding, export
from ocssl_jax.data.pictures import decode
from ocssl_jax.replacing import replacing

parquet = pytest.importorskip("pyarrow.parquet")

NAMES = ("a.png", "cat/b.PNG", "cat/deep/c.png", "dog/d.png", "dog/e.png", "dog/f.png")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, *finished(folder)


@pytest.fixture
def pictures(tmp_path):
    """Six pictures of any size, one of them grey, and what is none."""
    root, rng = tmp_path / "pictures", np.random.default_rng(0)
    for i, name in enumerate(NAMES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shape = (9 + i, 12) if i == 3 else (9 + i, 12, 3)
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(root / name)
    (root / "dog/notes.txt").write_text("no picture")
    (root / ".hidden").mkdir()
    (root / ".hidden/g.png").write_bytes((root / "a.png").read_bytes())
    return root


def expected(run, pictures, names, seed=0):
    """By the learner's own function, one picture at a time."""
    _, learning, variables = run
    images = [decode((pictures / n).read_bytes(), channels=3, size=8) for n in names]
    found = [learning.encode(variables[seed], image[None])[0] for image in images]
    return np.stack(found)


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        embed.main([str(argument) for argument in arguments])
    assert left.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_a_parquet_has_a_row_a_picture(run, pictures, tmp_path, capsys):
    embed.main([str(run[0]), str(pictures), f"--out={tmp_path / 'new/f.parquet'}"])
    assert "6 pictures, 16 features each" in capsys.readouterr().out
    table = parquet.read_table(tmp_path / "new/f.parquet")
    assert table.column_names == ["path", "class", "feature"]
    assert table["path"].to_pylist() == list(NAMES)
    classes = [None, "cat", "deep", "dog", "dog", "dog"]
    assert table["class"].to_pylist() == classes
    assert str(table["feature"].type) == "fixed_size_list<element: float>[16]"
    got = np.array(table["feature"].to_pylist(), np.float32)
    want = expected(run, pictures, NAMES)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["f.parquet"]


def test_an_npz_of_a_flat_folder_has_no_classes(run, pictures, tmp_path):
    out = tmp_path / "f.npz"
    embed.main([str(run[0]), str(pictures / "dog"), f"--out={out}", "--seed=3"])
    with np.load(out, allow_pickle=False) as table:
        assert sorted(table) == ["feature", "path"]
        assert table["path"].tolist() == ["d.png", "e.png", "f.png"]
        want = expected(run, pictures, NAMES[3:], seed=3)
        np.testing.assert_allclose(table["feature"], want, rtol=1e-5, atol=1e-6)
        assert table["feature"].dtype == np.float32


def test_broken_pictures_are_named_and_counted(run, pictures, tmp_path, capsys):
    (pictures / "cat/b.PNG").write_bytes(b"no picture")
    (pictures / "dog/e.png").write_bytes((pictures / "dog/e.png").read_bytes()[:60])
    (pictures / "dog/gone.png").symlink_to("nowhere.png")
    (pictures / "loop").symlink_to(pictures)
    embed.main([str(run[0]), str(pictures), f"--out={tmp_path / 'f.npz'}"])
    told = capsys.readouterr()
    assert "4 pictures," in told.out
    assert told.err == (
        f"{pictures}: 3 of 7 pictures cannot be read and are skipped: cat/b.PNG, "
        f"dog/e.png, dog/gone.png\n"
    )


def test_what_is_not_possible_is_told_in_a_line(run, pictures, tmp_path, capsys):
    out, run = f"--out={tmp_path / 'f.npz'}", run[0]
    bad = f"--out={tmp_path / 'f.csv'}"
    assert "must end in .parquet or .npz" in refused(capsys, run, pictures, bad)
    assert "is a folder" in refused(
        capsys, run, pictures, f"--out={folder(tmp_path / 'd.npz')}"
    )
    assert "--out" in refused(capsys, run, pictures)
    line = refused(capsys, tmp_path / "none", pictures, out)
    assert "is no run's workdir" in line
    assert "no folder" in refused(capsys, run, tmp_path / "none", out)
    assert "no picture in" in refused(capsys, run, folder(tmp_path / "empty"), out)
    line = refused(capsys, run, pictures, out, "--seed=1")
    assert "--seed must be one of 0, 3, got 1" in line
    assert not (tmp_path / "f.npz").exists()


def test_an_earlier_file_outlives_a_folder_of_broken_pictures(run, tmp_path, capsys):
    (folder(tmp_path / "broken") / "a.png").write_bytes(b"")
    (tmp_path / "f.npz").write_bytes(b"earlier")
    with pytest.raises(SystemExit):
        embed.main([str(run[0]), str(tmp_path / "broken"), f"--out={tmp_path}/f.npz"])
    assert "can be read" in capsys.readouterr().err
    assert (tmp_path / "f.npz").read_bytes() == b"earlier"


ODD = os.fsdecode(b"caf\xe9.png"), os.fsdecode(b"d\xffg/\xc3\xa9.png")  # in Latin-1


def test_names_that_are_no_text_are_escaped_alike_in_both_formats(run, pictures):
    for name in ODD:
        (pictures / "new" / name).parent.mkdir(parents=True, exist_ok=True)
        (pictures / "new" / name).write_bytes((pictures / "a.png").read_bytes())
    out = pictures / "f.npz", pictures / "f.parquet"
    for path in out:
        embed.main([str(run[0]), str(pictures / "new"), f"--out={path}"])
    with np.load(out[0], allow_pickle=False) as held:
        assert held["path"].tolist() == [r"caf\xe9.png", r"d\xffg/é.png"]
        assert held["class"].tolist() == ["", r"d\xffg"]
        table = parquet.read_table(out[1])
        assert table["path"].to_pylist() == held["path"].tolist()
        assert table["class"].to_pylist() == [None, r"d\xffg"]
    assert not list(pictures.rglob("*.draft"))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_draft_outlives_no_error(tmp_path, error):
    (tmp_path / "f").write_bytes(b"earlier")
    with pytest.raises(error), replacing(tmp_path / "f") as file:
        file.write(b"half")
        raise error
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError), replacing(tmp_path / "folder") as file:
        file.write(b"whole, but nothing to take the place of")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f", "folder"]
    assert (tmp_path / "f").read_bytes() == b"earlier"


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("file/f.npz", "is a file"),
        ("file/deep/f.npz", "Not a directory"),
        ("/proc/nowhere/f.npz", "No such file"),
        (f"new/{'n' * 300}.npz", "name too long"),
        (f"{'n' * 300}/f.npz", "name too long"),
    ],
)
def test_what_cannot_be_written_is_told_before_a_picture_is_read(
    run, pictures, tmp_path, capsys, monkeypatch, out, words
):
    monkeypatch.setattr(embedding, "blocks", None)  # that read them
    (tmp_path / "file").write_bytes(b"")
    place = tmp_path / out  # an absolute one stays as it is
    before = sorted(tmp_path.rglob("*"))
    line = refused(capsys, run[0], pictures, f"--out={place}")
    assert line.startswith(f"{embed.PROGRAM}: --out {place} cannot be written (")
    assert words in line
    with pytest.raises(SystemExit) as left:
        export.main([str(run[0]), "--to=torch", f"--out={place}.safetensors"])
    assert left.value.code == 2 and "cannot be written" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_runs_that_cannot_be_used_say_why(pictures, tmp_path, capsys):
    out = f"--out={tmp_path / 'f.npz'}"
    finished(tmp_path / "run")
    encoder = tmp_path / "run/encoder"
    other = tmp_path / "other"
    finished(other, backbone__width=8)
    (encoder / "seed_0.safetensors").write_bytes(
        (other / "encoder/seed_0.safetensors").read_bytes()
    )
    line = refused(capsys, tmp_path / "run", pictures, out)
    assert "no encoder of this run's network" in line
    (encoder / "encoder.json").write_text('{"seeds": [0]}')
    assert "encoder.json is damaged" in refused(capsys, tmp_path / "run", pictures, out)
    (encoder / "encoder.json").unlink()
    line = refused(capsys, tmp_path / "run", pictures, out)
    assert "let the run finish" in line


def test_without_pyarrow_parquet_says_what_to_install(
    run, pictures, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    line = refused(capsys, run[0], pictures, f"--out={tmp_path / 'f.parquet'}")
    assert "pip install 'ocssl_jax[parquet]'" in line


def test_help_is_the_docstring_and_needs_no_jax():
    code = (
        "import sys; from ocssl_jax import embed\n"
        "try: embed.main(['--help'])\n"
        "except SystemExit as left: assert left.code == 0\n"
        "assert 'jax' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "python -m ocssl_jax.embed" in done.stdout


def folder(path):
    path.mkdir(exist_ok=True)
    return path


def test_an_encoder_that_looks_through_an_autoencoder_does_so_here(
    pictures, tmp_path, capsys
):
    """That of AE replay: without its lens the features would be others."""
    hybrid = {
        "method__name": "supervised",
        "strategy__name": "ae",
        "strategy__ae__autoencoder__width": 8,
        "strategy__ae__autoencoder__learns_on": False,
        "stream__epochs": 2,
    }
    run = tmp_path / "run", *finished(tmp_path / "run", **hybrid)
    embed.main([str(run[0]), str(pictures), f"--out={tmp_path / 'f.npz'}"])
    with np.load(tmp_path / "f.npz", allow_pickle=False) as held:
        found, names = held["feature"], held["path"]
    np.testing.assert_allclose(found, expected(run, pictures, names), rtol=1e-4)
    variables = run[2][0]
    clear = {**variables, "lens": jax.tree.map(jnp.zeros_like, variables["lens"])}
    assert not np.allclose(found, expected((*run[:2], {0: clear}), pictures, names))
    capsys.readouterr()
    with pytest.raises(SystemExit):
        export.main([str(run[0]), "--to=torch", f"--out={tmp_path / 'e.safetensors'}"])
    assert "--to torch has no autoencoder" in capsys.readouterr().err
