"""Domain folders in their three layouts, and DomainNet as TFDS prepares it."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prepared import prepare_pictures

from ocssl_jax.data import DataError, benchmark, load
from ocssl_jax.data.domainnet import DOMAINS

SIZE = 4
LAYOUTS = ("{domain}/{split}", "{split}/{domain}", "{domain}_{split}")
PICTURES = {  # (domain, split, class) -> grey levels
    ("sketch", "train", "dog"): (1, 2),
    ("sketch", "train", "horse"): (3,),
    ("sketch", "test", "horse"): (4,),
    ("art_painting", "train", "dog"): (5,),
    ("art_painting", "test", "cat"): (6,),  # a class that others lack
    ("art_painting", "test", "dog"): (7, 8),
}
REAL = os.environ.get("OCSSL_DATA", "")
real_data = pytest.mark.skipif(not REAL, reason="OCSSL_DATA names no real data sets")


def save(root, layout, pictures, test="test"):
    for (domain, split, category), greys in pictures.items():
        place = layout.format(domain=domain, split=test if split == "test" else split)
        for i, grey in enumerate(greys):
            folder = root / place / category
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("L", (3, 5), grey).save(folder / f"{i}.png")


def read(root, size=SIZE):
    return load("domain_folder", data_dir=root, image_size=size)


@pytest.mark.parametrize("test", ["test", "val"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_data(tmp_path, layout, test):
    save(tmp_path, layout, PICTURES, test)
    (tmp_path / "notes").mkdir()
    (tmp_path / "README.txt").write_text("x")
    for _ in range(2):  # decoded, then from the cache, whose folder lies beside
        data = read(tmp_path)
        assert data.domain_names == ("art_painting", "sketch")
        assert data.class_names == ("cat", "dog", "horse")
        assert data.train_image[:, 0, 0, 0].tolist() == [5, 1, 2, 3]
        assert data.train_label.tolist() == [1, 1, 1, 2]
        assert data.train_domain.tolist() == [0, 1, 1, 1]
        assert data.test_image[:, 0, 0, 0].tolist() == [6, 7, 8, 4]
        assert data.test_label.tolist() == [0, 1, 1, 2]
        assert data.test_domain.tolist() == [0, 0, 0, 1]


def test_domains_without_labels(tmp_path):
    for i, path in enumerate(("a_train/x.png", "b_train/y.png", "b_train/z.png")):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        Image.new("L", (3, 5), i).save(tmp_path / path)
    data = read(tmp_path)
    assert data.train_label.tolist() == [-1, -1, -1]
    assert data.train_domain.tolist() == [0, 1, 1]
    assert len(data.test_image) == 0


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_a_domain_without_training_pictures_is_named(tmp_path, layout):
    save(tmp_path, layout, PICTURES | {("toy", "test", "dog"): (9,)})
    with pytest.raises(DataError, match=r"domain toy: no picture in .*train"):
        read(tmp_path)


def test_a_broken_picture_of_a_domain_is_skipped(tmp_path):
    save(tmp_path, LAYOUTS[2], PICTURES)
    (tmp_path / "sketch_train/dog/0.png").write_bytes(b"broken")
    data = read(tmp_path)
    assert data.skipped == ("sketch_train/dog/0.png",)
    assert data.train_domain.tolist() == [0, 1, 1]


def test_what_holds_no_domains_is_told_the_layouts(tmp_path):
    (tmp_path / "dog").mkdir()
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="no domain folders in") as error:
            read(root)
        for layout in ("<domain>/train/<class>", "train/<domain>", "<domain>_train"):
            assert layout in str(error.value)
    with pytest.raises(ValueError, match="give an image_size"):
        read(tmp_path, size=0)


def test_other_data_sets_have_no_domains(tmp_path):
    (tmp_path / "train/x").mkdir(parents=True)
    Image.new("L", (3, 5)).save(tmp_path / "train/x/a.png")
    data = load("folder", data_dir=tmp_path, image_size=2)
    assert data.train_domain is None and data.test_domain is None
    assert data.domain_names == ()


def test_domainnet_prepared_by_tfds(tmp_path):
    names = [f"class_{i}" for i in range(345)]

    def rows(domain, n):
        greys = [10 * DOMAINS.index(domain) + i for i in range(n)]
        return [(np.full((5, 3, 3), grey, np.uint8), grey) for grey in greys]

    for number, domain in enumerate(DOMAINS):
        with pytest.raises(DataError, match=f"no data set domainnet/{domain} in"):
            load("domainnet", data_dir=tmp_path)
        prepare_pictures(
            tmp_path,
            f"domainnet/{domain}",
            names=names,
            train=rows(domain, number + 2),
            test=rows(domain, 2),
        )
    data = load("domainnet", data_dir=tmp_path, image_size=SIZE)
    assert data.domain_names == DOMAINS
    assert data.class_names == tuple(names)
    assert np.bincount(data.train_domain).tolist() == [2, 3, 4, 5, 6, 7]
    assert np.bincount(data.test_domain).tolist() == [2] * 6
    assert (data.train_label // 10 == data.train_domain).all()
    assert (data.train_image == data.train_label[:, None, None, None]).all()


@real_data
def test_real_pacs(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = read(Path(REAL) / "folders/pacs", size=32)
    assert data.domain_names == ("art_painting", "cartoon", "photo", "sketch")
    assert len(data.class_names) == 7
    assert np.bincount(data.train_domain).tolist() == [1641, 1878, 1339, 3145]
    assert np.bincount(data.test_domain).tolist() == [407, 466, 331, 784]
    assert data.skipped == ()
    bench = benchmark(
        data.train_label,
        data.test_label,
        kind="domain",
        tasks=4,
        seed=42,
        val_ratio=0.1,
        train_domain=data.train_domain,
        test_domain=data.test_domain,
    )
    # Sketches are black on white, and the palest of the four.
    brightness = [data.train_image[t].mean() for t in bench.train]
    assert np.argmax(brightness) == 3 and brightness[3] > 200
