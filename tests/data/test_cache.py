"""The uint8 cache: whole, checked, and renewed when its source changes."""

import json
import multiprocessing
import os
import pickle

import numpy as np
import pytest

from ocssl_jax.data import DataError, cache
from ocssl_jax.data.cache import FILES, Row, Source, decoded


def numbered(n, shape=(2, 3, 1)):
    return [np.full(shape, i % 256, np.uint8) for i in range(n)]


def a_source(train=5, test=2, mark="a", calls=None, shape=(2, 3, 1)):
    def rows(split):
        if calls is not None:
            calls.append(split)
        for i, image in enumerate(
            numbered({"train": train, "test": test}[split], shape)
        ):
            yield Row(image, i % 3, f"{split}/{i}")

    return Source("toy", cache.fingerprint(mark, train, test), lambda: ("x", "y"), rows)


def entry(data_dir):
    (folder,) = (data_dir / "ocssl_cache").iterdir()
    return folder


def damage(file, kind):
    data = bytearray(file.read_bytes())
    if kind == "flipped":
        data[-1] ^= 1
    elif kind == "truncated":
        data = data[:-1]
    elif kind == "header":
        data[:64] = b"\xff" * 64
    elif kind == "empty":
        data = b""
    file.write_bytes(bytes(data))


def test_what_goes_in_comes_out(tmp_path):
    for _ in range(2):
        data = decoded(a_source(), data_dir=tmp_path)
        assert np.array_equal(data.arrays["train_image"], numbered(5))
        assert np.array_equal(data.arrays["test_image"], numbered(2))
        assert data.arrays["train_label"].tolist() == [0, 1, 2, 0, 1]
        assert data.arrays["train_label"].dtype == np.int32
        assert data.class_names == ("x", "y")
        assert data.skipped == ()
        assert isinstance(data.arrays["train_image"], np.memmap)
        assert not data.arrays["train_image"].flags.writeable
    assert sorted(f.name for f in entry(tmp_path).iterdir()) == sorted(FILES)


def test_domains_are_kept(tmp_path):
    def rows(split):
        for i, image in enumerate(numbered(3)):
            yield Row(image, -1, split, domain=2 - i)

    source = Source("toy", "f" * 16, lambda: (), rows, ("a", "b", "c"))
    for _ in range(2):
        data = decoded(source, data_dir=tmp_path)
        assert data.domain_names == ("a", "b", "c")
        assert data.arrays["train_domain"].tolist() == [2, 1, 0]
        assert data.arrays["test_domain"].dtype == np.int32
    plain = decoded(a_source(), data_dir=tmp_path)
    assert plain.domain_names == ()
    assert plain.arrays["train_domain"].tolist() == [-1] * 5


def test_a_disk_without_room_is_told_before_decoding(tmp_path):
    calls = []
    source = a_source(calls=calls)._replace(bytes=10**18)
    with pytest.raises(DataError, match=r"images need 1000000000.0 GB and .* are free"):
        decoded(source, data_dir=tmp_path)
    assert calls == []
    assert list((tmp_path / "ocssl_cache").iterdir()) == []


def test_decoding_that_takes_long_tells_of_its_progress(tmp_path, monkeypatch, capsys):
    decoded(a_source(), data_dir=tmp_path / "quick")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(cache, "PATIENCE", -1)
    monkeypatch.setattr(cache, "AGAIN", 1000)
    decoded(a_source(), data_dir=tmp_path / "slow")
    assert capsys.readouterr().err.splitlines() == [
        "decoding toy once: train, 1 images so far",
        "decoding toy once: test, 1 images so far",
    ]


def test_decoding_happens_once(tmp_path):
    calls = []
    for _ in range(3):
        decoded(a_source(calls=calls), data_dir=tmp_path)
    assert calls == ["train", "test"]


def test_images_are_plain_numpy_files(tmp_path):
    decoded(a_source(train=1234), data_dir=tmp_path)
    images = np.load(entry(tmp_path) / "train_image.npy", allow_pickle=False)
    assert images.shape == (1234, 2, 3, 1)
    assert images[300, 0, 0, 0] == 300 % 256


def test_changed_data_are_decoded_again_and_replace_the_old(tmp_path):
    decoded(a_source(mark="old"), data_dir=tmp_path)
    old = entry(tmp_path)
    data = decoded(a_source(train=4, mark="new"), data_dir=tmp_path)
    assert len(data.arrays["train_image"]) == 4
    assert entry(tmp_path) != old  # and it is the only one


def test_an_empty_test_split_has_the_shape_of_the_images(tmp_path):
    for _ in range(2):
        data = decoded(a_source(test=0), data_dir=tmp_path)
        assert data.arrays["test_image"].shape == (0, 2, 3, 1)
        assert data.arrays["test_label"].shape == (0,)


def test_unreadable_rows_are_skipped_and_named(tmp_path):
    def rows(split):
        yield Row(None, 0, f"{split}/first")
        yield from (Row(image, 7, "good") for image in numbered(2))
        yield Row(None, 0, f"{split}/last")

    source = Source("toy", "f" * 16, lambda: (), rows)
    for _ in range(2):
        data = decoded(source, data_dir=tmp_path)
        assert data.skipped == ("train/first", "train/last", "test/first", "test/last")
        assert np.array_equal(data.arrays["train_image"], numbered(2))
        assert data.arrays["train_label"].tolist() == [7, 7]


@pytest.mark.parametrize("kind", ["flipped", "truncated", "header", "empty"])
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_named_and_deleting_it_helps(tmp_path, file, kind):
    if (file, kind) == ("index.json", "flipped"):
        kind = "truncated"  # any text that is JSON again is tried below
    decoded(a_source(), data_dir=tmp_path)
    path = entry(tmp_path) / file
    damage(path, kind)
    with pytest.raises(DataError, match="delete it to rebuild it") as error:
        decoded(a_source(), data_dir=tmp_path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    path.unlink()
    data = decoded(a_source(), data_dir=tmp_path)
    assert np.array_equal(data.arrays["train_image"], numbered(5))


def test_an_array_of_other_shape_or_type_is_damaged(tmp_path):
    decoded(a_source(), data_dir=tmp_path)
    path = entry(tmp_path) / "train_image.npy"
    for array in (
        np.stack(numbered(5)).reshape(5, 3, 2, 1),
        np.stack(numbered(5)).astype(np.int8),
        np.asfortranarray(np.stack(numbered(5))),
        np.stack(numbered(6)),
    ):
        np.save(path, array)
        with pytest.raises(DataError, match=r"train_image\.npy: damaged"):
            decoded(a_source(), data_dir=tmp_path)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


def test_nothing_is_ever_unpickled(tmp_path):
    decoded(a_source(), data_dir=tmp_path)
    path = entry(tmp_path) / "train_label.npy"
    np.save(path, np.array([Bomb()], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"train_label\.npy: damaged"):
        decoded(a_source(), data_dir=tmp_path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match=r"train_label\.npy: damaged"):
        decoded(a_source(), data_dir=tmp_path)


@pytest.mark.parametrize(
    "text", ["[]", "null", "{}", '{"arrays": 3}', '{"arrays": {"train_image": 1}}']
)
def test_an_index_that_says_something_else_is_damaged(tmp_path, text):
    decoded(a_source(), data_dir=tmp_path)
    path = entry(tmp_path) / "index.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"index\.json: damaged"):
        decoded(a_source(), data_dir=tmp_path)


def test_every_flipped_byte_of_a_header_is_noticed(tmp_path):
    decoded(a_source(), data_dir=tmp_path)
    path = entry(tmp_path) / "train_image.npy"
    whole = path.read_bytes()
    for position in range(0, 128):
        broken = bytearray(whole)
        broken[position] ^= 0x15
        path.write_bytes(bytes(broken))
        try:  # a change of the padding may be harmless, a wrong array never is
            data = decoded(a_source(), data_dir=tmp_path)
        except DataError:
            continue
        assert np.array_equal(data.arrays["train_image"], numbered(5))


def test_a_failed_decoding_leaves_nothing(tmp_path):
    def rows(split):
        yield Row(np.zeros((2, 2, 1), np.uint8), 0, "one")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decoded(Source("toy", "f" * 16, lambda: (), rows), data_dir=tmp_path)
    assert list((tmp_path / "ocssl_cache").iterdir()) == []


def test_what_a_killed_process_left_is_removed_in_the_end(tmp_path):
    old, new = (tmp_path / "ocssl_cache" / f".building-{n}" for n in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "train_image.npy").write_bytes(b"x")
    os.utime(old, (0, 0))
    decoded(a_source(), data_dir=tmp_path)
    assert not old.exists()
    assert new.exists()  # another process may be at work in it


def test_images_of_unequal_shape_are_refused(tmp_path):
    def rows(split):
        yield Row(np.zeros((2, 2, 1), np.uint8), 0, "one")
        yield Row(np.zeros((2, 3, 1), np.uint8), 0, "two")

    with pytest.raises(DataError, match="two: its shape"):
        decoded(Source("toy", "f" * 16, lambda: (), rows), data_dir=tmp_path)


def test_no_readable_image_at_all_is_an_error(tmp_path):
    def rows(split):
        yield Row(None, 0, "one")

    with pytest.raises(DataError, match=r"toy \(1 files tried\): no image"):
        decoded(Source("toy", "f" * 16, lambda: (), rows), data_dir=tmp_path)


def test_a_read_only_folder_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    data_dir.chmod(0o555)
    calls = []
    for _ in range(2):
        data = decoded(a_source(calls=calls), data_dir=data_dir)
        assert np.array_equal(data.arrays["train_image"], numbered(5))
    data_dir.chmod(0o755)
    assert calls == ["train", "test"]
    assert list(data_dir.iterdir()) == []
    (place,) = (tmp_path / "user" / "ocssl_jax").iterdir()
    assert place == cache.user_place(data_dir)
    assert cache.user_place(tmp_path) != place


def test_without_xdg_the_home_folder_is_used(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    place = cache.user_place(tmp_path / "data")
    assert place.parent == tmp_path / ".cache" / "ocssl_jax"


def test_a_full_disk_is_one_clear_line(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(DataError, match="No space left on device") as error:
        decoded(a_source(), data_dir=tmp_path)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "ocssl_cache").iterdir()) == []


def _load_repeatedly(data_dir, barrier, results):
    barrier.wait()
    sums = []
    for i in range(8):
        data = decoded(a_source(train=500), data_dir=data_dir / str(i))
        sums.append(int(np.sum(data.arrays["train_image"], dtype=np.int64)))
    results.put(sums)


def test_processes_may_decode_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")  # threads do not fork
    barrier, results = context.Barrier(3), context.Queue()
    workers = [
        context.Process(target=_load_repeatedly, args=(tmp_path, barrier, results))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    expected = int(np.sum(numbered(500), dtype=np.int64))
    for _ in workers:
        assert results.get(timeout=30) == [expected] * 8
    for worker in workers:
        worker.join(timeout=30)
        assert worker.exitcode == 0


def test_the_index_is_readable_by_others(tmp_path):
    decoded(a_source(), data_dir=tmp_path)
    index = json.loads((entry(tmp_path) / "index.json").read_text())
    assert index["arrays"]["train_image"]["shape"] == [5, 2, 3, 1]
    assert index["fingerprint"] == a_source().fingerprint
