"""CLEAR's released layout, made small: its buckets, its two protocols, its crops."""

import json

import numpy as np
import pytest
from PIL import Image

from ocssl_jax.data import DataError, benchmark, load

CLASSES = ("BACKGROUND", "camera", "air guitar")  # as listed, not sorted
BUCKETS = ("0", "1", "2", "10")
SIZE = 4


def grey(split, bucket, label, i):
    """A level that says where a picture comes from."""
    return 100 * (split == "test") + 20 * BUCKETS.index(bucket) + 5 * label + i


def release(root, train="train_image_only", buckets=BUCKETS):
    """Writes both archives unpacked; class c has c + 1 pictures a bucket, tests one."""
    for folder, split in ((train, "train"), ("test", "test")):
        place = root / folder
        place.mkdir(parents=True)
        (place / "class_names.txt").write_text("\n".join(CLASSES))
        listed: dict = {}
        for bucket in reversed(buckets):  # a JSON object has no order to rely on
            listed[bucket] = {}
            for label, name in enumerate(CLASSES):
                about = {}
                for i in range(label + 1 if split == "train" else 1):
                    path = f"labeled_images/{bucket}/{name}/{i}.png"
                    (place / path).parent.mkdir(parents=True, exist_ok=True)
                    level = grey(split, bucket, label, i)
                    Image.new("L", (SIZE, SIZE), level).save(place / path)
                    about[f"id{i}"] = {"IMG_PATH": path, "DATE_TAKEN": "2004"}
                file = f"labeled_metadata/{bucket}/{name}.json"
                (place / file).parent.mkdir(parents=True, exist_ok=True)
                (place / file).write_text(json.dumps(about))
                listed[bucket][name] = file
        (place / "labeled_metadata.json").write_text(json.dumps(listed))


@pytest.fixture
def root(tmp_path):
    release(tmp_path / "clear100")
    return tmp_path


def levels(images):
    return images[:, 0, 0, 0].tolist()


def expected(split, buckets):
    """Levels, labels and numbers of the buckets' pictures, in their order."""
    each = [3, 2, 1] if split == "train" else [1, 1, 1]
    return [
        (grey(split, bucket, label, i), label, number)
        for number, bucket in enumerate(buckets)
        for label in range(3)
        for i in range(each[::-1][label])
    ]


def found(data, split):
    arrays = (getattr(data, f"{split}_{f}") for f in ("image", "label", "domain"))
    image, label, domain = arrays
    return list(zip(levels(image), label.tolist(), domain.tolist(), strict=True))


def test_the_shipped_splits(root):
    for _ in range(2):
        data = load("clear100", data_dir=root, image_size=SIZE)
        assert data.class_names == CLASSES
        assert data.domain_names == BUCKETS  # by number: 10 comes last
        assert found(data, "train") == expected("train", BUCKETS)
        assert found(data, "test") == expected("test", BUCKETS)
        assert data.skipped == ()


@pytest.mark.parametrize("folder", ["train", "train_image_only"])
def test_both_archives_and_the_unpacked_folder_itself_will_do(tmp_path, folder):
    release(tmp_path, train=folder)
    data = load("clear100", data_dir=tmp_path, image_size=SIZE)
    assert len(data.train_image) == 4 * 6


def test_streaming_tests_on_the_next_bucket(root):
    for _ in range(2):
        data = load("clear100_streaming", data_dir=root, image_size=SIZE)
        assert data.domain_names == BUCKETS[:-1]
        shipped = expected("train", BUCKETS) + expected("test", BUCKETS)
        of = {i: sorted(r[:2] for r in shipped if r[2] == i) for i in range(4)}
        for split, later in (("train", 0), ("test", 1)):
            rows = found(data, split)
            assert [r[2] for r in rows] == sorted(r[2] for r in rows)
            for i in range(3):
                own = sorted(r[:2] for r in rows if r[2] == i)
                assert own == of[i + later]
    assert data.train_image.base is not None  # both are views of one file
    assert not data.test_image.flags.writeable
    bench = benchmark(
        data.train_label,
        data.test_label,
        kind="domain",
        tasks=3,
        seed=0,
        val_ratio=0.0,
        train_domain=data.train_domain,
        test_domain=data.test_domain,
    )
    assert sorted(levels(data.test_image[bench.test[0]])) == [r[0] for r in of[1]]


def test_the_protocols_have_caches_of_their_own(root):
    for name in ("clear100", "clear100_streaming", "clear100"):
        load(name, data_dir=root, image_size=SIZE)
    assert len(list((root / "ocssl_cache").iterdir())) == 2


@pytest.mark.parametrize("size", [(8, 4), (4, 8), (9, 5), (301, 225)])
def test_the_shorter_side_is_resized_and_the_middle_cut_out(root, size):
    """The oracle: torchvision's Resize and CenterCrop, their roundings by hand."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    path = root / "clear100/test/labeled_images/0/BACKGROUND/0.png"
    Image.fromarray(pixels).save(path)
    data = load("clear100", data_dir=root, image_size=4)
    width, height = {  # of the resized picture, the longer side rounded down
        (8, 4): (8, 4),
        (4, 8): (4, 8),
        (9, 5): (7, 4),
        (301, 225): (5, 4),
    }[size]
    left, top = {(8, 4): (2, 0), (4, 8): (0, 2), (9, 5): (2, 0), (301, 225): (0, 0)}[
        size
    ]
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    truth = np.asarray(resized)[top : top + 4, left : left + 4]
    assert np.array_equal(data.test_image[0], truth)


def test_a_missing_picture_is_skipped_and_named(root):
    path = "test/labeled_images/2/camera/0.png"
    (root / "clear100" / path).unlink()
    data = load("clear100", data_dir=root, image_size=SIZE)
    assert data.skipped == (path,)
    assert len(data.test_image) == 11


def test_a_missing_release_names_the_archives(tmp_path):
    for name in ("clear100", "clear100_streaming"):
        with pytest.raises(DataError, match=r"clear100-train-image-only\.zip") as error:
            load(name, data_dir=tmp_path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("labeled_metadata.json", "[", "is damaged"),
        ("labeled_metadata.json", "[]", "is not CLEAR's"),
        ("labeled_metadata.json", '{"0": {"camera": 3}}', "is not CLEAR's"),
        ("labeled_metadata.json", "{}", "at least 2 buckets, has 0"),
        ("labeled_metadata/1/camera.json", '{"id": {}}', "is not CLEAR's"),
        ("labeled_metadata/1/camera.json", None, "cannot be read"),
        ("class_names.txt", None, "cannot be read"),
    ],
)
def test_damaged_metadata_are_one_clear_line(root, file, text, words):
    path = root / "clear100/train_image_only" / file
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(DataError, match=words) as error:
        load("clear100", data_dir=root, image_size=SIZE)
    assert "\n" not in str(error.value)


def test_splits_of_different_buckets_are_refused(tmp_path):
    release(tmp_path / "clear100")
    listed = tmp_path / "clear100/test/labeled_metadata.json"
    content = json.loads(listed.read_text())
    del content["0"]
    listed.write_text(json.dumps(content))
    with pytest.raises(DataError, match="same buckets; they have 0, 1, 2, 10 and 1, 2"):
        load("clear100", data_dir=tmp_path, image_size=SIZE)
