"""The data set that needs no download: the real digits, lossless, always the same."""

import multiprocessing
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ocssl_jax.data import load
from ocssl_jax.data.digits import split, to_uint8


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    load("digits", data_dir=folder)
    return folder


def test_grey_levels_survive():
    levels = np.arange(17.0)
    assert np.array_equal(np.rint(to_uint8(levels) * (16 / 255)), levels)
    assert (to_uint8(levels).min(), to_uint8(levels).max()) == (0, 255)


def test_the_images_are_those_of_scikit_learn(data_dir):
    digits, data = load_digits(), load("digits", data_dir=data_dir)
    for name, rows in split(digits.target).items():
        images = getattr(data, f"{name}_image")
        assert images.shape == (len(rows), 8, 8, 1)
        levels = np.rint(images[..., 0] * (16 / 255))
        assert np.array_equal(levels, digits.images[rows])
        assert np.array_equal(getattr(data, f"{name}_label"), digits.target[rows])
    assert len(data.train_image) + len(data.test_image) == 1797
    assert data.class_names == tuple("0123456789")


def test_the_split_is_stratified_and_fixed():
    labels = load_digits().target
    parts = split(labels)
    assert np.array_equal(np.sort(np.concatenate([*parts.values()])), np.arange(1797))
    whole, held_out = np.bincount(labels), np.bincount(labels[parts["test"]])
    assert held_out.tolist() == [round(0.2 * n) for n in whole]
    assert np.array_equal(parts["test"], split(labels)["test"])
    # Golden: a data set already prepared somewhere must stay comparable.
    assert parts["test"][:8].tolist() == [5, 9, 12, 14, 16, 17, 19, 23]


def test_mean_and_std_are_those_of_the_training_images(data_dir):
    data = load("digits", data_dir=data_dir)
    pixels = data.train_image / 255
    assert data.mean == pytest.approx((pixels.mean(),), abs=5e-5)
    assert data.std == pytest.approx((pixels.std(),), abs=5e-5)


def test_no_tensorflow_and_no_second_preparation(data_dir, monkeypatch):
    assert "tensorflow" not in sys.modules
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # import would fail
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert len(load("digits", data_dir=data_dir).test_image) == 359


def test_a_read_only_data_dir_sends_them_to_the_user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    data_dir.chmod(0o555)
    assert len(load("digits", data_dir=data_dir).train_image) == 1438
    assert len(load("digits", data_dir=data_dir).train_image) == 1438
    data_dir.chmod(0o755)
    assert list(data_dir.iterdir()) == []


def _load(folder, barrier, results):
    barrier.wait()
    results.put(len(load("digits", data_dir=folder).train_image))


def test_processes_may_prepare_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")  # threads do not fork
    barrier, results = context.Barrier(2), context.Queue()
    workers = [
        context.Process(target=_load, args=(tmp_path, barrier, results))
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    assert [results.get(timeout=60) for _ in workers] == [1438, 1438]
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
