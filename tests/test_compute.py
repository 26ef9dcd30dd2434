"""Runs ordered by what they computed: read from their folders, nothing run again."""

import json

import pytest
from matplotlib.image import imread
from test_compare import fake_run

from ocssl_jax import workdir
from ocssl_jax.report import runs
from ocssl_jax.report.__main__ import main
from ocssl_jax.report.compute import operations, short

SMALL = {
    "stream__dataset": "digits",
    "stream__batch_size": 32,
    "augment__name": "glyphs",
    "backbone__name": "mlp",
    "method__projection": 16,
    "passes": 4,
}


def run(folder, *, updates, **fields):
    """A finished run on digits, as `compute` reads it."""
    fake_run(folder, **(SMALL | fields))
    about = {"input": [8, 8, 1], "mean": [0.3], "std": [0.4]}
    workdir.write(folder / "encoder" / "encoder.json", json.dumps(about))
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"updates": updates}))


@pytest.fixture
def folders(tmp_path):
    run(tmp_path / "rals", updates=40, strategy__name="rals", strategy__replay_size=64)
    run(tmp_path / "er", updates=40, strategy__name="er", strategy__replay_size=32)
    return tmp_path


def test_a_table_goes_from_the_cheapest_to_the_dearest(folders, capsys):
    out = folders / "out"
    both = [str(folders / name) for name in ("rals", "er")]
    main([*both, "--compute", "--out", str(out), "--metrics", "FA"])
    text = capsys.readouterr().out
    table = text.split("**Accuracy by compute**")[1].strip().splitlines()[2:4]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    assert [row[0].split()[0] for row in cells] == ["er", "rals"]
    assert [row[1] for row in cells] == ["40", "40"]
    # Twice a plain step, but for the memory's own look at each batch.
    assert 1.9 < float(cells[1][2]) / float(cells[0][2]) < 2.2
    assert "Accuracy by compute" in (out / "report.md").read_text()
    assert "Accuracy by compute" in (out / "index.html").read_text()
    assert imread(out / "compute.png").std() > 0


def test_clip_is_counted_with_its_words(tmp_path):
    """Text of each class once a step, and three times the forward pass of each row."""
    names = {"three": ("ash", "bee", "cod")}
    names["six"] = (*names["three"], "doe", "elk", "fox")
    found = {}
    for folder, classes in names.items():
        path = tmp_path / folder
        run(path, updates=1, method__name="clip", strategy__name="none", passes=1)
        about = workdir.read_json(path / "encoder" / "encoder.json", needs="input")
        about |= {"class_names": classes, "train_images": 100}
        workdir.write(path / "encoder" / "encoder.json", json.dumps(about))
        found[folder] = operations(runs.read(path))
    width, tokens = 64, 16  # of the text tower; 'a photo of a bee.' is 13 letters
    block = 2 * tokens * (12 * width * width)  # its maps, and little besides
    assert found["six"] - found["three"] == pytest.approx(3 * 3 * block, rel=0.2)


def test_without_an_encoder_there_is_nothing_to_count(tmp_path, capsys):
    fake_run(tmp_path / "er", strategy__name="er")
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "er"), "--compute"])
    assert ended.value.code == 2
    assert (
        "--compute needs a finished run, with its encoder/" in capsys.readouterr().err
    )


def test_numbers_are_short():
    assert [short(x) for x in (0.001184, 1.184, 13_512.3)] == [
        "0.00118",
        "1.18",
        "13,512",
    ]
