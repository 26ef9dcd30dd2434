"""ImageNet in its layouts: which classes, in which order, and that only they are read.

A thousand classes here have one small picture each; most are files that no decoder
would accept, so decoding a class too many would show.
"""

import random

import numpy as np
import pytest
from PIL import Image
from prepared import prepare_pictures

from ocssl_jax.data import DataError, benchmark, load
from ocssl_jax.data.imagenet import choose

# random.seed(42); random.sample(range(1000), K), for K of 30, 100 and 200 alike.
SAMPLE_42_STARTS = [654, 114, 25, 759, 281, 250, 228, 142, 754, 104]
WNIDS = tuple(f"n{i * 7 + 1_440_764:08d}" for i in range(1000))


def grey(value):
    return Image.new("RGB", (6, 4), (value % 256, value // 256, 7))


def save(root, split, wnids, value=lambda wnid: WNIDS.index(wnid)):
    for wnid in wnids:
        folder = root / split / wnid
        folder.mkdir(parents=True)
        grey(value(wnid)).save(folder / "a.png")


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    """All classes; only those of seed 42's hundred hold whole pictures."""
    root = tmp_path_factory.mktemp("imagenet")
    chosen = {WNIDS[i] for i in random.Random(42).sample(range(1000), 100)}
    for split in ("train", "val"):
        save(root, split, chosen)
        for wnid in set(WNIDS) - chosen:
            (root / split / wnid).mkdir()
            (root / split / wnid / "a.JPEG").write_bytes(b"broken")
    (root / "test").mkdir()  # ImageNet's own: unlabelled, never read
    grey(0).save(root / "test/ILSVRC2012_test_00000001.png")
    return root


@pytest.mark.parametrize("k", [30, 100, 200])
def test_the_choice_is_the_references(k):
    choice = choose(WNIDS, k, seed=42)
    arriving = [WNIDS.index(choice.wnids[label]) for label in choice.order]
    assert arriving[:10] == SAMPLE_42_STARTS
    assert list(choice.wnids) == sorted(choice.wnids)
    assert sorted(choice.order) == list(range(k))
    assert choose(WNIDS, k, seed=43) != choice
    before = random.getstate()
    choose(WNIDS, k, seed=42)
    assert random.getstate() == before


def test_classes_may_be_chosen_by_their_numbers():
    assert choose(WNIDS, 3, seed=0, order=(9, 2, 5)) == (
        (WNIDS[2], WNIDS[5], WNIDS[9]),
        (2, 0, 1),
    )


@pytest.mark.parametrize("order", [(1, 2), (1, 1, 2), (1, 2, 1000), (-1, 2, 3)])
def test_other_numbers_are_refused(order):
    with pytest.raises(ValueError, match=r"3 different numbers .* each in 0 \.\. 999"):
        choose(WNIDS, 3, seed=0, order=order)


def test_a_hundred_classes_of_a_thousand(thousand):
    data = load("imagenet100", data_dir=thousand, image_size=2, seed=42)
    assert data.skipped == ()
    assert len(data.class_names) == len(data.train_image) == len(data.test_image) == 100
    for label, wnid in enumerate(data.class_names):
        number = WNIDS.index(wnid)
        (image,) = data.train_image[data.train_label == label]
        assert (image == (number % 256, number // 256, 7)).all()
        assert (data.test_image[data.test_label == label] == image).all()
    drawn = [WNIDS.index(data.class_names[label]) for label in data.order]
    assert drawn[:10] == SAMPLE_42_STARTS
    bench = benchmark(
        data.train_label,
        data.test_label,
        kind="class",
        tasks=20,
        seed=42,
        val_ratio=0.0,
        order=data.order,
    )
    first = [data.class_names[label] for label in bench.classes[0]]
    assert first == [WNIDS[i] for i in SAMPLE_42_STARTS[:5]]


def test_each_choice_keeps_its_own_cache(thousand):
    first = load("imagenet100", data_dir=thousand, image_size=2).train_image.filename
    other = load(
        "imagenet100", data_dir=thousand, image_size=2, order=tuple(range(100))
    )
    assert other.train_image.filename != first
    again = load("imagenet100", data_dir=thousand, image_size=2).train_image
    assert again.filename == first
    assert len(other.skipped) > 0 and len(other.class_names) == 100


def test_the_published_sizes_are_the_default(tmp_path):
    for split in ("train", "val"):
        save(tmp_path, split, WNIDS[:30])
    data = load("imagenet30", data_dir=tmp_path)
    assert data.train_image.shape == (30, 224, 224, 3)
    assert load("imagenet30", data_dir=tmp_path, image_size=8).train_image.shape[1] == 8


def test_a_folder_of_exactly_k_classes_is_used_whole(tmp_path):
    own = WNIDS[500:530]
    for split in ("train", "val"):
        save(tmp_path, split, own)
    data = load("imagenet30", data_dir=tmp_path, image_size=2, seed=1)
    assert data.class_names == own
    assert data.order == ()  # drawn like any other data set's


def test_the_numbers_of_classes_are_checked(tmp_path):
    for split in ("train", "val"):
        save(tmp_path, split, WNIDS[:29])
    with pytest.raises(
        DataError, match=r"imagenet30 needs .* 1000 .* or 30 .*found 29"
    ):
        load("imagenet30", data_dir=tmp_path)
    with pytest.raises(DataError, match="needs the 1000 classes of ImageNet; found 29"):
        load("imagenet", data_dir=tmp_path)


def test_flat_validation_pictures_are_explained(tmp_path):
    save(tmp_path, "train", WNIDS[:30])
    (tmp_path / "val").mkdir()
    grey(1).save(tmp_path / "val/ILSVRC2012_val_00000001.png")
    with pytest.raises(DataError, match="must be sorted into val/<wnid>/"):
        load("imagenet30", data_dir=tmp_path)


def test_no_imagenet_at_all(tmp_path):
    for name in ("imagenet", "imagenet100", "imagenet32-100"):
        with pytest.raises(DataError, match="should hold class folders") as error:
            load(name, data_dir=tmp_path)
        assert "\n" not in str(error.value)


def rows(numbers, labels):
    return [
        (np.asarray(grey(n)), label) for n, label in zip(numbers, labels, strict=True)
    ]


def test_prepared_by_tfds(tmp_path):
    numbers = list(range(0, 1000, 10)) * 2
    prepare_pictures(
        tmp_path,
        "imagenet2012",
        names=WNIDS,
        train=rows(numbers, numbers),
        validation=rows(numbers[:100], numbers[:100]),
    )
    wanted = (40, 10, 700)
    data = load("imagenet30", data_dir=tmp_path, image_size=2, order=order30(wanted))
    assert [data.class_names[i] for i in data.order[:3]] == [WNIDS[i] for i in wanted]
    for label, wnid in enumerate(data.class_names):
        number = WNIDS.index(wnid)
        images = data.train_image[data.train_label == label]
        assert len(images) == (2 if number % 10 == 0 else 0)
        assert (images == (number % 256, number // 256, 7)).all()
    assert len(data.test_image) == 30


def order30(first):
    """Thirty tens, `first` in front."""
    rest = [n for n in range(0, 1000, 10) if n not in first]
    return (*first, *rest[:27])


def test_resized_by_tfds_in_an_order_of_its_own(tmp_path):
    names = tuple(np.random.default_rng(0).permutation(WNIDS).tolist())
    numbers = list(range(100))
    labels = [names.index(WNIDS[n]) for n in numbers]
    prepare_pictures(
        tmp_path,
        "imagenet_resized/32x32",
        names=names,
        train=rows(numbers, labels),
        validation=rows(numbers, labels),
    )
    order = tuple(range(99, -1, -1))
    data = load("imagenet32-100", data_dir=tmp_path, order=order)
    assert data.class_names == WNIDS[:100]
    assert data.order == order
    assert data.train_image.shape == (100, 32, 32, 3)
    for label in range(100):
        (image,) = data.test_image[data.test_label == label]
        assert (image == (label, 0, 7)).all()
    with pytest.raises(DataError, match="no ImageNet in"):
        load("imagenet100", data_dir=tmp_path)  # those are too small for 224 pixels
