"""Broken pictures are skipped and counted, damaged data sets answered by one line."""

import contextlib
import io
import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fuzzing import tries
from hypothesis import given
from hypothesis import strategies as st
from kill_config import get_config
from nobody import as_nobody, reachable
from PIL import Image

from ocssl_jax import dotted, experiment, settings
from ocssl_jax.data import load
from ocssl_jax.data.errors import DataError
from ocssl_jax.errors import UsageError

SIZE = 8


def encoded(form: str, rng: np.random.Generator, side: int = 12) -> bytes:
    """A random picture as the bytes of a file."""
    pixels = rng.integers(0, 256, (side, side, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


# Each makes one file in a class folder, named after `i`, and says whether it is broken.
def whole(folder, i, rng):
    (folder / f"{i}.png").write_bytes(encoded("png", rng))
    return False


def one_pixel(folder, i, rng):
    (folder / f"{i}.png").write_bytes(encoded("png", rng, side=1))
    return False


def misnamed(folder, i, rng):
    (folder / f"{i}.jpg").write_bytes(encoded("png", rng))
    return False


def long_name(folder, i, rng):
    (folder / (f"{i}-" + "x" * 240 + ".png")).write_bytes(encoded("png", rng))
    return False


def any_alphabet(folder, i, rng):
    (folder / f"{i} 写真\n'\"🙂.png").write_bytes(encoded("png", rng))
    return False


def cut_short(folder, i, rng):
    data = encoded("jpeg", rng)
    (folder / f"{i}.jpg").write_bytes(data[: rng.integers(1, len(data) - 100)])
    return True


def zero_bytes(folder, i, rng):
    (folder / f"{i}.jpg").write_bytes(b"")
    return True


def all_zeros(folder, i, rng):
    (folder / f"{i}.jpg").write_bytes(bytes(500))
    return True


def text(folder, i, rng):
    (folder / f"{i}.png").write_text("no picture")
    return True


def noise(folder, i, rng):
    (folder / f"{i}.webp").write_bytes(rng.bytes(300))
    return True


def link_to_itself(folder, i, rng):
    (folder / f"{i}.png").symlink_to(folder / f"{i}.png")
    return True


def link_to_nowhere(folder, i, rng):
    (folder / f"{i}.png").symlink_to(folder / "gone" / "x.png")
    return True


def huge(folder, i, rng):
    # A PNG that says it has 60,000 x 60,000 pixels and holds none of them.
    data = bytearray(encoded("png", rng))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    (folder / f"{i}.png").write_bytes(bytes(data))
    return True


def link_of_folders(folder, i, rng):
    (folder / f"{i}").symlink_to(folder)
    return None  # no picture at all


def other_file(folder, i, rng):
    (folder / f"{i}.txt").write_text("notes")
    return None


MAKERS = (
    *(whole, one_pixel, misnamed, long_name, any_alphabet),
    *(cut_short, zero_bytes, all_zeros, text, noise),
    *(link_to_itself, link_to_nowhere, huge, link_of_folders, other_file),
)


def fill(root: Path, makers, seed: int) -> Counter:
    """Two classes of pictures, one of them sound; how many there are of each sort."""
    rng, counts = np.random.default_rng(seed), Counter()
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(8):
                (folder / f"sound-{i}.png").write_bytes(encoded("png", rng))
    for i, maker in enumerate(makers):
        counts[maker(root / "train" / "cat", i, rng)] += 1
    return counts


@pytest.mark.parametrize("examples", [20, pytest.param(500, marks=pytest.mark.slow)])
def test_any_mixture_of_pictures(examples, capsys):
    tried = Counter()

    @tries(examples)
    @given(st.lists(st.sampled_from(MAKERS), max_size=12), st.integers(0, 2**32 - 1))
    def each(makers, seed):
        with tempfile.TemporaryDirectory() as place:
            counts = fill(Path(place), makers, seed)
            data = load("folder", data_dir=place, image_size=SIZE)
        assert len(data.skipped) == counts[True]
        assert len(data.train_label) == 16 + counts[False]
        assert data.train_image.shape[1:] == (SIZE, SIZE, 3)
        assert data.class_names == ("cat", "dog")
        tried.update(counts)

    each()
    with capsys.disabled():
        print(f"{examples} folders, {tried[True]} broken files skipped")


@pytest.mark.slow
def test_a_run_counts_what_it_skipped(tmp_path):
    counts = fill(tmp_path / "data", MAKERS, seed=3)
    config = get_config("none-simclr")
    for name, value in {
        "stream.dataset": "folder",
        "stream.data_dir": str(tmp_path / "data"),
        "stream.image_size": SIZE,
        "stream.tasks": 2,
        "stream.batch_size": 6,
        "stream.order": (),
        "stream.limit": 2,
        "probe.names": ("ridge",),
        "baselines": (),
    }.items():
        dotted.put(config, name, value)
    experiment.run(settings.resolve(config, {}), tmp_path / "run", {})
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["skipped_files"] == counts[True] > 5


def test_without_permission(monkeypatch):
    with reachable() as place:
        without_permission(place, monkeypatch)


def without_permission(place, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "data"))
    root = place / "data"
    fill(root, (), seed=1)
    load("folder", data_dir=root, image_size=SIZE)  # imports what it needs
    secret = root / "train" / "cat" / "sound-3.png"
    secret.write_bytes(encoded("png", np.random.default_rng(5)))
    secret.chmod(0)
    shutil.rmtree(root / "ocssl_cache")
    with as_nobody(root):
        data = load("folder", data_dir=root, image_size=SIZE)
        shutil.rmtree(root / "ocssl_cache")
    assert data.skipped == ("train/cat/sound-3.png",)
    (root / "train" / "cat").chmod(0)
    with as_nobody(root), pytest.raises(DataError, match=r"cannot be listed \(Permis"):
        load("folder", data_dir=root, image_size=SIZE)
    (root / "train" / "cat").chmod(0o755)
    root.chmod(0)
    with pytest.raises(UsageError) as error, contextlib.ExitStack() as stack:
        stack.enter_context(as_nobody(place))
        load("folder", data_dir=root, image_size=SIZE)
    assert str(root) in str(error.value) and "\n" not in str(error.value)
    root.chmod(0o755)


def damages(data: bytes, rng: np.random.Generator):
    """What may become of a file: how, and what is left."""
    yield "cut short", data[: len(data) // 2]
    yield "empty", b""
    yield "noise", rng.bytes(len(data))
    yield "other JSON", b"[]"
    yield "no object", b"{}"
    flipped = bytearray(data)
    for place in rng.integers(0, len(data), 5):
        flipped[place] ^= 1 << rng.integers(8)
    yield "flipped bits", bytes(flipped)


def test_every_file_of_a_prepared_data_set_damaged_in_every_way(tmp_path):
    good, bad = tmp_path / "good", tmp_path / "bad"
    known = load("digits", data_dir=good)
    rng, refused = np.random.default_rng(0), 0
    for path in sorted(p for p in good.rglob("*") if p.is_file()):
        for how, left in damages(path.read_bytes(), rng):
            shutil.copytree(good, bad)
            if "ocssl_cache" not in str(path):
                shutil.rmtree(bad / "ocssl_cache")  # else nothing of it is read
            (bad / path.relative_to(good)).write_bytes(left)
            try:
                data = load("digits", data_dir=bad)
            except DataError as error:
                assert str(bad) in str(error) and "\n" not in str(error), how
                refused += 1
            else:  # the damage was in nothing that counts
                assert np.array_equal(data.train_image, known.train_image), how
            shutil.rmtree(bad)
    assert refused > 40
