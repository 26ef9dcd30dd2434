"""Class folders of real pictures, whole and broken, against what was put in them."""

import os
import time
import warnings

import numpy as np
import pytest
from PIL import Image

from ocssl_jax.data import DataError, load
from ocssl_jax.data.pictures import decode

SIZE = 8


def colour(seed, size=(SIZE, SIZE)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    return Image.fromarray(pixels)


def save(image, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return np.asarray(image.convert("RGB"))


def read(root, size=SIZE):
    return load("folder", data_dir=root, image_size=size)


@pytest.fixture
def root(tmp_path):
    """Two classes, one lossless picture each in train and test."""
    for i, name in enumerate(("train/cat/a.png", "train/dog/b.png", "test/dog/c.png")):
        save(colour(i), tmp_path / name)
    return tmp_path


def test_classes_and_pictures_come_in_the_order_of_their_names(tmp_path):
    names = ["b/2.png", "b/10.png", "a/z.png", "a/A.png", "C/x.png"]
    truth = {n: save(colour(i), tmp_path / "train" / n) for i, n in enumerate(names)}
    data = read(tmp_path)
    assert data.class_names == ("C", "a", "b")
    assert data.train_label.tolist() == [0, 1, 1, 2, 2]
    ordered = ["C/x.png", "a/A.png", "a/z.png", "b/10.png", "b/2.png"]
    assert np.array_equal(data.train_image, [truth[name] for name in ordered])
    assert data.test_image.shape == (0, SIZE, SIZE, 3)


def test_a_class_means_the_same_in_every_split(root):
    save(colour(9), root / "test/ant/d.png")  # sorts before the training classes
    data = read(root)
    assert data.class_names == ("ant", "cat", "dog")
    assert data.train_label.tolist() == [1, 2]
    assert data.test_label.tolist() == [0, 2]


def test_val_stands_in_for_test(root):
    truth = save(colour(7), root / "val/cat/v.png")
    assert not np.array_equal(read(root).test_image, truth[None])  # `test` goes first
    (root / "test").rename(root / "test_old")
    assert np.array_equal(read(root).test_image, truth[None])


def test_unlabelled_pictures(tmp_path):
    truth = [save(colour(i), tmp_path / "train" / f"{i}.png") for i in range(3)]
    data = read(tmp_path)
    assert np.array_equal(data.train_image, truth)
    assert data.train_label.tolist() == [-1, -1, -1]
    assert data.class_names == ()
    save(colour(3), tmp_path / "train/known/x.png")  # some labels, some not
    assert read(tmp_path).train_label.tolist() == [-1, -1, -1, 0]


def test_a_folder_without_train_says_where_its_pictures_go(tmp_path):
    save(colour(0), tmp_path / "flat" / "x.png")
    with pytest.raises(DataError, match=r"without labels as .*flat/train/<picture>"):
        read(tmp_path / "flat")
    with pytest.raises(DataError, match=r"there is no folder .*misspelt$"):
        read(tmp_path / "misspelt")


def test_resizing_ignores_the_aspect_ratio_and_is_antialiased(tmp_path):
    # Columns alternate between black and white: without antialiasing the picture
    # would come out black or white, with it grey.
    stripes = np.zeros((16, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    save(Image.fromarray(stripes), tmp_path / "train/x/wide.png")
    save(Image.new("RGB", (1, 1), (9, 8, 7)), tmp_path / "train/x/pixel.png")
    images = read(tmp_path).train_image
    assert (images[0] == (9, 8, 7)).all()  # one pixel fills the picture
    assert np.abs(images[1].astype(int) - 127).max() <= 12
    half = np.zeros((16, 64, 3), np.uint8)
    half[:, 32:] = 200
    save(Image.fromarray(half), tmp_path / "train/x/wide.png")
    image = read(tmp_path).train_image[1]
    assert (image[:, :3] == 0).all() and (image[:, -3:] == 200).all()


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    if mode == "1":
        grey = np.where(grey > 99, 255, 0).astype(np.uint8)
    image = Image.fromarray(grey)
    suffix = "tif" if mode in ("CMYK", "YCbCr") else "png"
    tolerance = {"CMYK": 1, "YCbCr": 1}.get(mode, 0)
    if mode == "I;16":  # Pillow's own conversion would clip all of it to white
        image = Image.fromarray(grey.astype(np.uint16) * 256 + 5)
    elif mode == "CMYK":
        image = image.convert("RGB").convert("CMYK")
    elif mode == "P":
        image = image.convert("RGB").quantize(64)
    else:
        image = image.convert("RGB").convert(mode)
    save(image, tmp_path / f"train/x/a.{suffix}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = read(tmp_path)
    assert data.skipped == ()
    difference = data.train_image[0].astype(int) - grey[..., None]
    assert np.abs(difference).max() <= tolerance


def test_orientation_in_exif_is_ignored(tmp_path):
    sideways = Image.Exif()
    sideways[0x0112] = 6  # to be turned by a quarter before it is shown
    truth = save(colour(0), tmp_path / "train/x/a.png", exif=sideways)
    assert np.array_equal(read(tmp_path).train_image[0], truth)


def test_sixteen_bits_a_channel_and_sizes_of_any_kind(tmp_path):
    grey = np.full((3, 5), 200 * 256 + 7, np.uint16)
    save(Image.fromarray(grey), tmp_path / "train/x/a.png")
    save(Image.fromarray(grey.astype(np.int32)), tmp_path / "train/x/b.tif")
    save(Image.new("L", (70, 2), 200), tmp_path / "train/x/c.jpg", quality=100)
    images = read(tmp_path).train_image
    assert images.shape == (3, SIZE, SIZE, 3)
    assert (np.abs(images.astype(int) - 200) <= 1).all()


@pytest.mark.parametrize(
    ("levels", "dtype", "seen"),
    [
        ((0, 200, 255), np.int32, (0, 200, 255)),  # 8 bits in a file of 32
        ((0, 200 * 256 + 7, 70_000, -5), np.int32, (0, 200, 255, 0)),
        ((0.0, 0.5, 1.0, -0.1), np.float32, (0, 128, 255, 0)),  # shares of white
        ((0.0, 200.0, 255.0, 300.0), np.float32, (0, 200, 255, 255)),
    ],
)
def test_numbers_of_32_bits_are_levels_of_what_they_span(tmp_path, levels, dtype, seen):
    grey = np.resize(np.asarray(levels, dtype), (SIZE, SIZE))
    save(Image.fromarray(grey), tmp_path / "train/x/a.tif")
    data = read(tmp_path)
    assert np.array_equal(data.train_image[0, ..., 0], np.resize(seen, (SIZE, SIZE)))


def test_transparency_is_dropped_in_silence(tmp_path):
    image = colour(0).quantize(16)
    path = tmp_path / "train/x/a.png"
    truth = save(image, path, transparency=bytes(range(16)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read(tmp_path).train_image[0], truth)


def test_broken_pictures_are_named_skipped_and_counted(root, capsys):
    cat = root / "train" / "cat"
    save(colour(3, (64, 64)), cat / "cut.jpg", quality=95)
    whole = (cat / "cut.jpg").read_bytes()
    (cat / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (cat / "empty.jpg").write_bytes(b"")
    (cat / "text.PNG").write_text("not a picture")
    (cat / "nowhere.gif").symlink_to(cat / "gone.gif")
    (cat / "itself.bmp").symlink_to(cat / "itself.bmp")
    os.mkfifo(cat / "pipe.webp")  # reading it would wait for ever
    for _ in range(2):  # decoded, then from the cache
        data = read(root)
        names = ["cut.jpg", "empty.jpg", "itself.bmp", "nowhere.gif", "pipe.webp"]
        assert data.skipped == tuple(f"train/cat/{n}" for n in [*names, "text.PNG"])
        assert data.train_label.tolist() == [0, 1]
        assert data.class_names == ("cat", "dog")
    shown = ", ".join(data.skipped[:3])
    assert capsys.readouterr().err.splitlines() == [
        f"folder in {root}: 6 of 9 pictures cannot be read and are skipped: {shown}, …"
    ]


def test_no_broken_byte_stops_the_reader(root):
    for form in ("png", "jpg", "gif", "webp", "tif", "bmp"):
        save(colour(1, (32, 32)), root / f"train/x/whole.{form}")
        whole = (root / f"train/x/whole.{form}").read_bytes()
        rng = np.random.default_rng(0)
        for i in range(20):
            broken = bytearray(whole)
            broken[rng.integers(len(broken))] ^= 1 << int(rng.integers(8))
            cut = len(broken) if i % 2 else int(rng.integers(len(broken)))
            (root / f"train/y{form}").mkdir(exist_ok=True)
            (root / f"train/y{form}/{i}.{form}").write_bytes(bytes(broken[:cut]))
    data = read(root)
    assert len(data.skipped) > 20
    assert len(data.train_label) + len(data.skipped) == 2 + 6 * 21


def test_a_wrong_suffix_does_not_matter_if_it_names_a_picture(root):
    truth = save(colour(5), root / "train/cat/z.jpg", format="PNG")
    assert np.array_equal(read(root).train_image[1], truth)


def test_what_is_not_a_picture_of_a_class_is_left_out(root):
    (root / "train/cat/notes.txt").write_text("x")
    (root / "train/cat/._a.png").write_bytes(b"a resource fork")
    (root / "train/cat/.DS_Store").write_bytes(b"x")
    save(colour(5), root / "train/.hidden/x.png")
    save(colour(5), root / "train/cat/deeper/x.png")
    (root / "train/empty").mkdir()
    (root / "train/loop").symlink_to(root / "train")
    (root / "train/cat/loop").symlink_to(root / "train/cat")
    data = read(root)
    assert data.class_names == ("cat", "dog")
    assert len(data.train_image) == 2
    assert data.skipped == ()


def test_linked_class_folders_are_read(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    truth = save(colour(8), elsewhere / "x.png")
    (root / "train/eel").symlink_to(elsewhere)
    assert np.array_equal(read(root).train_image[2], truth)


def test_names_of_any_alphabet(tmp_path):
    names = ["Ä pfel/ö.png", "日本/写真 1.png", "a'b\"c/emoji 🙂.png"]
    truth = [save(colour(i), tmp_path / "train" / n) for i, n in enumerate(names)]
    bytes_name = os.fsencode(tmp_path / "train") + b"/latin\xe9"
    os.mkdir(bytes_name)
    with open(bytes_name + b"/\xff.png", "wb") as file:
        file.write(b"broken")
    for _ in range(2):
        data = read(tmp_path)
        assert len(data.train_image) == 3
        for name, image in zip(names, truth, strict=True):
            label = data.class_names.index(name.split("/")[0])
            assert np.array_equal(data.train_image[data.train_label == label], [image])
        assert [os.fsencode(n) for n in data.skipped] == [b"train/latin\xe9/\xff.png"]


def test_changed_pictures_are_read_again(root):
    first = read(root)
    truth = save(colour(99), root / "train/cat/a.png")
    os.utime(root / "train/cat/a.png", ns=(1, 1))
    assert np.array_equal(read(root).train_image[0], truth)
    save(colour(98), root / "train/cat/b.png")
    assert len(read(root).train_image) == len(first.train_image) + 1


def test_each_size_has_its_own_cache(root):
    assert read(root, 8).train_image.shape == (2, 8, 8, 3)
    assert read(root, 5).train_image.shape == (2, 5, 5, 3)
    assert len(list((root / "ocssl_cache").iterdir())) == 2


def test_a_folder_that_is_no_data_set_fails_at_once(tmp_path):
    started = time.perf_counter()
    with pytest.raises(DataError, match="train/<class>/<picture>") as error:
        read(tmp_path)
    assert time.perf_counter() - started < 1
    assert str(tmp_path / "train") in str(error.value)
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match=r"no picture in .*\.jpg"):
        read(tmp_path)


def test_a_folder_that_cannot_be_listed_is_named(root, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(DataError, match=r"train: cannot be listed \(Permission"):
        read(root)


def test_a_size_is_needed(root):
    with pytest.raises(ValueError, match="give an image_size"):
        load("folder", data_dir=root)


def test_only_broken_pictures_are_an_error(tmp_path):
    (tmp_path / "train/x").mkdir(parents=True)
    (tmp_path / "train/x/a.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="no image of it can be read"):
        read(tmp_path)


def test_grey_decoding_keeps_one_channel(root):
    data = (root / "train/cat/a.png").read_bytes()
    assert decode(data, channels=1, size=0).shape == (SIZE, SIZE, 1)
