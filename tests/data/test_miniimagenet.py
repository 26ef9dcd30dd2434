"""MiniImagenet in each of its layouts; pickles are read and never run."""

import pickle

import numpy as np
import pytest
from PIL import Image

from ocssl_jax.data import DataError, load, pickled_arrays
from ocssl_jax.data.miniimagenet import PICKLE

CLASSES = {"train": ("n3", "n1"), "val": ("n9",), "test": ("n2",)}
ORDER = ("n3", "n1", "n9", "n2")  # as the lists name them
EACH = 5  # images of a class, four of them for training


def level(name, i):
    return 20 * int(name[1]) + i


def picture(name, i):
    """Wider than high, the sides white: the middle is one grey."""
    pixels = np.full((90, 150, 3), 255, np.uint8)
    pixels[:, 30:120] = level(name, i)
    return Image.fromarray(pixels)


def lists(root):
    (root / "images").mkdir()
    for split, names in CLASSES.items():
        rows = ["filename,label"]
        for name in names:
            for i in range(EACH):
                picture(name, i).save(root / "images" / f"{name}_{i}.png")
                rows.append(f"{name}_{i}.png,{name}")
        (root / f"{split}.csv").write_text("\n".join(rows) + "\n")


def class_folders(root):
    for split, names in CLASSES.items():
        for name in names:
            (root / split / name).mkdir(parents=True)
            for i in range(EACH):
                picture(name, i).save(root / split / name / f"{i}.png")


def content(names):
    grey = [
        np.full((84, 84, 3), level(n, i), np.uint8) for n in names for i in range(EACH)
    ]
    rows = {n: list(range(c * EACH, (c + 1) * EACH)) for c, n in enumerate(names)}
    return {"image_data": np.stack(grey), "class_dict": rows}


def pickles(root, protocol=2):
    for split, names in CLASSES.items():
        data = pickle.dumps(content(names), protocol=protocol)
        (root / PICKLE.format(split)).write_bytes(data)


@pytest.mark.parametrize(
    ("layout", "order"),
    [(lists, ORDER), (class_folders, ("n1", "n3", "n9", "n2")), (pickles, ORDER)],
)
def test_every_layout_gives_the_same_images(tmp_path, layout, order):
    layout(tmp_path)
    data = load("miniimagenet", data_dir=tmp_path)
    assert data.class_names == order
    assert data.train_image.shape == (16, 84, 84, 3)
    assert data.test_image.shape == (4, 84, 84, 3)
    grey = lambda images: images[:, 42, 42, 0].tolist()
    assert grey(data.train_image) == [level(n, i) for n in order for i in range(4)]
    assert grey(data.test_image) == [level(n, 4) for n in order]
    assert data.train_label.tolist() == [c for c in range(4) for _ in range(4)]
    assert np.ptp(data.train_image[:, 10:-10, 10:-10]) <= 180  # no white: it is cut off
    middle = data.train_image[:, 42, 5:-5]
    assert (middle == middle[:, :1]).all()


def test_nothing_there_is_told_with_every_layout(tmp_path):
    with pytest.raises(
        DataError, match=r"no miniimagenet in .* train\.csv.*train/.*pkl"
    ):
        load("miniimagenet", data_dir=tmp_path)


def test_a_list_cannot_lead_out_of_its_folder(tmp_path):
    lists(tmp_path)
    (tmp_path / "val.csv").write_text("filename,label\n../../secret.png,n9\n")
    with pytest.raises(DataError, match="is no list of filename,label"):
        load("miniimagenet", data_dir=tmp_path)


@pytest.mark.parametrize("protocol", range(5))
def test_arrays_of_every_protocol_are_read(tmp_path, protocol):
    rng = np.random.default_rng(0)
    whole = {
        "image_data": rng.integers(0, 256, (3, 2, 2, 3), np.uint8),
        "columns": np.asfortranarray(rng.normal(size=(3, 4))),
        "class_dict": {"a": [0, 1, 300], "b": [2], "none": None, "pair": (1.5, True)},
        "long": 2**70,
    }
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(whole, protocol=protocol))
    found = pickled_arrays.read(path)
    for name in ("image_data", "columns"):
        np.testing.assert_array_equal(found[name], whole[name])
        assert found[name].dtype == whole[name].dtype
    assert found["class_dict"] == whole["class_dict"] and found["long"] == 2**70


def test_what_python_2_wrote_is_read(tmp_path):
    """Its strings are bytes: an array's data come as one."""
    path = tmp_path / "x.pkl"
    path.write_bytes(
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00"
        b"\x85q\x03U\x01bq\x04\x87q\x05Rq\x06(K\x01K\x03\x85q\x07cnumpy\ndtype\nq\x08U"
        b"\x02u1q\x09K\x00K\x01\x87q\x0aRq\x0b(K\x03U\x01|q\x0cNNNJ\xff\xff\xff\xffJ\xff"
        b"\xff\xff\xffK\x00tq\x0db\x89U\x03\x01\xff\x07q\x0etq\x0fb."
    )
    assert pickled_arrays.read(path).tolist() == [1, 255, 7]


class Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path, protocol):
    mark, path = tmp_path / "mark", tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"image_data": Bomb(mark)}, protocol=protocol))
    with pytest.raises(DataError, match=r"holds no arrays and plain data .*the name"):
        pickled_arrays.read(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "value", [np.array([object()]), {1, 2}, Image.new("L", (1, 1))]
)
def test_other_objects_are_refused(tmp_path, value):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(value, protocol=4))
    with pytest.raises(DataError, match="holds no arrays and plain data"):
        pickled_arrays.read(path)


def test_damaged_pickles_are_refused(tmp_path):
    whole = pickle.dumps(content(("n1",)), protocol=2)
    rng, path = np.random.default_rng(0), tmp_path / "x.pkl"
    for _ in range(200):
        data = bytearray(whole[: rng.integers(1, len(whole))])
        for place in rng.integers(0, min(len(data), 400), 3):
            data[place] = rng.integers(256)
        path.write_bytes(bytes(data))
        try:
            pickled_arrays.read(path)
        except DataError:
            continue


def test_a_list_within_itself_is_refused(tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\x02]q\x00h\x00a.")
    with pytest.raises(DataError, match="holds no arrays and plain data"):
        pickled_arrays.read(path)


def test_it_is_not_read_beyond_its_end(tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps([1], protocol=2) + b"\x80\x02cos\nsystem\n.")
    assert pickled_arrays.read(path) == [1]
