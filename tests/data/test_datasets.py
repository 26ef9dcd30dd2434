"""`load` at its door, and the real data sets where they are at hand."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ocssl_jax.data import DATASETS, DataError, benchmark, load, schedule

REAL = os.environ.get("OCSSL_DATA", "")
real_data = pytest.mark.skipif(not REAL, reason="OCSSL_DATA names no real data sets")


@pytest.fixture
def user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))


def test_importing_the_package_is_light():
    heavy = ("jax", "tensorflow_datasets", "tensorflow", "sklearn", "matplotlib")
    code = (
        "import sys, ocssl_jax.data as d\n"
        f"print([m for m in {heavy} if m in sys.modules])\n"
        "try: d.load('cifar100', data_dir='/nowhere')\n"
        "except d.DataError: pass\n"
        f"print([m for m in {heavy} if m in sys.modules])\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.stdout == "[]\n[]\n", out.stderr


@pytest.mark.parametrize(
    "name", ["cifar10", "cifar100", "mnist", "svhn_cropped", "cars196"]
)
def test_a_missing_data_set_names_the_folder_and_the_command(tmp_path, name):
    started = time.perf_counter()
    with pytest.raises(DataError) as error:
        load(name, data_dir=tmp_path)
    assert time.perf_counter() - started < 1
    message = str(error.value)
    assert str(tmp_path / name) in message
    assert f"python -m ocssl_jax.data.prepare {name} --data_dir {tmp_path}" in message
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []


def test_svhn_is_short_for_svhn_cropped(tmp_path):
    with pytest.raises(DataError, match=r"data\.prepare svhn_cropped --data_dir"):
        load("svhn", data_dir=tmp_path)


def test_a_half_prepared_data_set_is_missing(tmp_path):
    (tmp_path / "mnist/incomplete.0ABC_3.0.1").mkdir(parents=True)
    (tmp_path / "mnist/incomplete.0ABC_3.0.1/dataset_info.json").write_text("{}")
    (tmp_path / "mnist/3.0.1").mkdir()
    with pytest.raises(DataError, match="get it with"):
        load("mnist", data_dir=tmp_path)


def test_a_tfrecord_data_set_is_explained(tmp_path):
    folder = tmp_path / "mnist/3.0.1"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(json.dumps({"fileFormat": "tfrecord"}))
    with pytest.raises(DataError, match="tfrecord files, which only TensorFlow reads"):
        load("mnist", data_dir=tmp_path)


def test_damaged_records_are_explained(tmp_path):
    load("digits", data_dir=tmp_path)
    (cache,) = (tmp_path / "ocssl_cache").iterdir()
    (records,) = tmp_path.glob("ocssl_digits/*/*train.array_record*")
    whole = records.read_bytes()
    records.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="train records cannot be read") as error:
        load("digits", data_dir=tmp_path)
    assert "\n" not in str(error.value)
    assert cache.exists()  # of the whole records; nothing half-made beside it
    assert list((tmp_path / "ocssl_cache").iterdir()) == [cache]


def test_data_prepared_again_are_decoded_again(tmp_path):
    first = load("digits", data_dir=tmp_path).train_image.filename
    (records,) = tmp_path.glob("ocssl_digits/*/*train.array_record*")
    os.utime(records, ns=(1, 1))  # as long as before, but written at another time
    assert load("digits", data_dir=tmp_path).train_image.filename != first


def test_unknown_names_and_sizes_are_refused(tmp_path):
    with pytest.raises(DataError, match="digits, cifar10, cifar100, mnist"):
        load("cifar1000", data_dir=tmp_path)
    with pytest.raises(ValueError, match="image_size"):
        load("digits", data_dir=tmp_path, image_size=-1)


def test_images_may_be_resized(tmp_path):
    small = load("digits", data_dir=tmp_path, image_size=4)
    assert small.train_image.shape == (1438, 4, 4, 1)
    assert load("digits", data_dir=tmp_path).train_image.shape == (1438, 8, 8, 1)
    assert abs(float(small.train_image.mean()) - 0.3055 * 255) < 3


def test_the_registry_normalises_one_or_three_channels():
    for spec in DATASETS.values():
        assert len(spec.mean) == len(spec.std) in (1, 3)
        assert all(0 <= m < 1 for m in spec.mean) and all(0 < s <= 1 for s in spec.std)


@real_data
def test_real_cifar100(user_cache):
    data = load("cifar100", data_dir=Path(REAL) / "tfds")
    assert data.train_image.shape == (50_000, 32, 32, 3)
    assert data.test_image.shape == (10_000, 32, 32, 3)
    assert np.bincount(data.train_label).tolist() == [500] * 100
    assert np.bincount(data.test_label).tolist() == [100] * 100
    assert data.class_names[:3] == ("apple", "aquarium_fish", "baby")
    assert data.class_names[-1] == "worm"
    # The published mean and deviation of the training images.
    pixels = data.train_image[::5].reshape(-1, 3) / 255
    assert pixels.mean(0) == pytest.approx(data.mean, abs=5e-3)
    assert pixels.std(0) == pytest.approx(data.std, abs=5e-3)
    started = time.perf_counter()
    again = load("cifar100", data_dir=Path(REAL) / "tfds")
    print(f"CIFAR-100 from the cache: {time.perf_counter() - started:.3f} s")
    assert again.train_image.filename == data.train_image.filename
    bench = benchmark(
        data.train_label,
        data.test_label,
        kind="class",
        tasks=20,
        seed=42,
        val_ratio=0.1,
    )
    assert schedule(bench, key_seed=0, batch_size=10).id.shape == (4500, 10)


@real_data
def test_real_mnist(user_cache):
    data = load("mnist", data_dir=Path(REAL) / "tfds")
    assert data.train_image.shape == (60_000, 28, 28, 1)
    assert data.test_image.shape == (10_000, 28, 28, 1)
    # LeCun's counts of the training digits 0 .. 9.
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(data.train_label).tolist() == counts


@real_data
def test_real_imagenette(user_cache):
    data = load("folder", data_dir=Path(REAL) / "folders/imagenette", image_size=224)
    assert data.train_image.shape == (800, 224, 224, 3)
    assert data.test_image.shape == (200, 224, 224, 3)
    # Photographs of ten classes are about as bright as ImageNet's.
    pixels = data.train_image[::4].reshape(-1, 3) / 255
    assert pixels.mean(0) == pytest.approx(data.mean, abs=0.05)
    assert np.bincount(data.train_label).tolist() == [80] * 10
    assert np.bincount(data.test_label).tolist() == [20] * 10
    assert data.class_names[0] == "n01440764"
    assert data.skipped == ()
