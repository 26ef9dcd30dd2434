"""Stock data sets prepared without TensorFlow from archives laid out as published."""

import gzip
import hashlib
import io
import shlex
import subprocess
import sys
import tarfile
import threading
import zipfile

import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image
from tensorflow_datasets.core.download import checksums, resource
from tensorflow_datasets.core.utils import lazy_imports_utils
from tensorflow_datasets.image_classification import mnist

from ocssl_jax.data import DataError, load, records
from ocssl_jax.data import prepare as module
from ocssl_jax.data.prepare import main, prepare, reachable
from ocssl_jax.data.tf_standin import tf_standin

CIFAR10_NAMES = [f"class {i}" for i in range(10)]
CIFAR100_NAMES = [f"fine_{i:02d}" for i in range(100)]
COARSE_NAMES = [f"coarse_{i:02d}" for i in range(20)]


def pictures(n, shape, seed):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def cifar_rows(labels, images):
    """Label bytes, then the image channel by channel: the CIFAR binary version."""
    pixels = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([np.asarray(labels, np.uint8), pixels], axis=1).tobytes()


def tar(files):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as out:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
    return archive.getvalue()


def cifar10(truth):
    images, labels = truth["train"]
    files = {"batches.meta.txt": "\n".join(CIFAR10_NAMES).encode() + b"\n\n"}
    for i in range(5):
        files[f"data_batch_{i + 1}.bin"] = cifar_rows(labels[i::5, None], images[i::5])
    images, labels = truth["test"]
    files["test_batch.bin"] = cifar_rows(labels[:, None], images)
    folder = "cifar-10-batches-bin"
    return {
        "cifar-10-binary.tar.gz": tar({f"{folder}/{k}": v for k, v in files.items()})
    }


def cifar100(truth):
    files = {
        "fine_label_names.txt": "\n".join(CIFAR100_NAMES).encode() + b"\n",
        "coarse_label_names.txt": "\n".join(COARSE_NAMES).encode() + b"\n",
    }
    for name, (images, labels) in truth.items():
        coarse = labels // 5
        files[f"{name}.bin"] = cifar_rows(np.stack([coarse, labels], axis=1), images)
    folder = "cifar-100-binary"
    return {
        "cifar-100-binary.tar.gz": tar({f"{folder}/{k}": v for k, v in files.items()})
    }


def idx(array):
    """An IDX file of bytes, gzipped: 0 0 type rank, big-endian sizes, data."""
    sizes = np.asarray(array.shape, ">i4").tobytes()
    return gzip.compress(bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes())


def mnist_files(truth):
    files = {}
    for name, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = truth[name]
        files[f"{prefix}-images-idx3-ubyte.gz"] = idx(images[..., 0])
        files[f"{prefix}-labels-idx1-ubyte.gz"] = idx(labels.astype(np.uint8))
    return files


def svhn(truth):
    """MATLAB files, X [h w c n] and y [n 1], in which the digit 0 is a 10."""
    files = {}
    for name in ("train", "test", "extra"):
        images, labels = truth["test" if name == "extra" else name]
        y = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        file = io.BytesIO()
        scipy.io.savemat(file, {"X": images.transpose(1, 2, 3, 0), "y": y})
        files[f"{name}_32x32.mat"] = file.getvalue()
    return files


def jpeg(level, size=(30, 20)):
    file = io.BytesIO()
    Image.new("RGB", size, (level, level, level)).save(file, "JPEG")
    return file.getvalue()


def car_annotations(labels):
    """The devkit's MATLAB structures: a box, the class from 1, the file's name."""
    names = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
    rows = [(1, 1, 20, 15, k, f"{i + 1:05d}.jpg") for i, k in enumerate(labels)]
    file = io.BytesIO()
    array = np.array([rows], [(name, "O") for name in names])
    scipy.io.savemat(file, {"annotations": array})
    return file.getvalue()


def cars(train, test):
    """The archives of cars of these classes, pictures as grey as the class's number."""
    files = {
        f"cars_{split}.tgz": tar(
            {f"cars_{split}/{i + 1:05d}.jpg": jpeg(k) for i, k in enumerate(labels)}
        )
        for split, labels in (("train", train), ("test", test))
    }
    devkit = tar({"devkit/cars_train_annos.mat": car_annotations(train)})
    return files | {
        "car_devkit.tgz": devkit,
        "cars_test_annos_withlabels.mat": car_annotations(test),
    }


STOCK = {  # name: archives, shape, classes
    "cifar10": (cifar10, (32, 32, 3), 10),
    "cifar100": (cifar100, (32, 32, 3), 100),
    "mnist": (mnist_files, (28, 28, 1), 10),
    "svhn_cropped": (svhn, (32, 32, 3), 10),
}


@pytest.fixture
def offline(monkeypatch):
    def refuse(urls, *, patience):
        del patience
        return dict.fromkeys(urls, "the tests have no network")

    monkeypatch.setattr(module, "reachable", refuse)


def publish(name, folder, monkeypatch):
    """Writes small archives under the published names and registers their sums."""
    archives, shape, classes = STOCK[name]
    truth = {
        split: (
            pictures(n, shape, seed=n),
            np.random.default_rng(n).integers(0, classes, n),
        )
        for split, n in (("train", 20), ("test", 7))
    }
    register(name, archives(truth), folder, monkeypatch)
    monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", 20)
    monkeypatch.setattr(mnist, "_TEST_EXAMPLES", 7)
    return truth


def register(name, files, folder, monkeypatch):
    """Writes the archives and has TFDS expect their sizes and sums."""
    builder = tfds.builder_cls(name)
    infos = {}
    for url, info in builder.url_infos.items():
        data = files.pop(info.filename)
        (folder / info.filename).write_bytes(data)
        infos[url] = checksums.UrlInfo(
            size=tfds.core.utils.Size(len(data)),
            checksum=hashlib.sha256(data).hexdigest(),
            filename=info.filename,
        )
    assert not files
    monkeypatch.setattr(builder, "url_infos", infos)


def as_set(images, labels):
    return sorted((x.tobytes(), int(y)) for x, y in zip(images, labels, strict=True))


@pytest.mark.parametrize("name", STOCK)
def test_what_is_published_is_what_is_read(
    name, tmp_path, monkeypatch, offline, capsys
):
    manual = tmp_path / "manual"
    manual.mkdir()
    truth = publish(name, manual, monkeypatch)
    data_dir = tmp_path / "tfds"
    arguments = [name, "--data_dir", str(data_dir), "--manual_dir", str(manual)]
    assert main(arguments) == 0
    assert f"{name}: ready in {data_dir / name}" in capsys.readouterr().out
    assert main(arguments) == 0  # there already
    data = load(name, data_dir=data_dir)
    # TFDS shuffles while it writes, so compare the examples without their order.
    assert as_set(data.train_image, data.train_label) == as_set(*truth["train"])
    assert as_set(data.test_image, data.test_label) == as_set(*truth["test"])
    assert len(data.class_names) == STOCK[name][2]
    if name == "cifar10":
        assert list(data.class_names) == CIFAR10_NAMES
    if name == "cifar100":
        assert list(data.class_names) == CIFAR100_NAMES
    assert len(data.mean) == len(data.std) == STOCK[name][1][-1]
    assert "tensorflow" not in sys.modules
    assert "_module" not in vars(lazy_imports_utils.tensorflow)


def test_cars_are_read_at_their_size(tmp_path, monkeypatch, offline):
    register("cars196", cars(train=(1, 40, 196), test=(40, 1)), tmp_path, monkeypatch)
    prepare("cars196", data_dir=tmp_path / "tfds", manual_dir=tmp_path)
    data = load("cars196", data_dir=tmp_path / "tfds")
    assert data.train_image.shape == (3, 224, 224, 3)
    assert data.class_names[0] == "AM General Hummer SUV 2000"
    for image, label in ((data.train_image, data.train_label),
                         (data.test_image, data.test_label)):  # fmt: skip
        assert (image == label[:, None, None, None] + 1).all()
    assert sorted(data.train_label) == [0, 39, 195]


def seed_download(data_dir, url, data):
    """Puts a file where TFDS keeps what it has downloaded without knowing its sum."""
    path = data_dir / "downloads/domainnet" / resource.get_dl_fname(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    resource.write_info_file(
        url=url,
        path=epath.Path(path),
        dataset_name="domainnet",
        original_fname=url.rpartition("/")[2],
        url_info=checksums.UrlInfo(
            size=tfds.core.utils.Size(len(data)),
            checksum=hashlib.sha256(data).hexdigest(),
            filename=url.rpartition("/")[2],
        ),
    )


def test_domainnet_is_prepared_domain_by_domain(tmp_path, offline):
    base = "http://csr.bu.edu/ftp/visda/2019/multi-source"
    paths = ["sketch/ant/1.jpg", "sketch/apple/2.jpg", "sketch/ant/3.jpg"]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        for i, path in enumerate(paths):
            out.writestr(path, jpeg(10 * i))
    train, test = f"{paths[0]} 6\n{paths[1]} 8\n", f"{paths[2]} 6\n"
    seed_download(tmp_path, f"{base}/sketch.zip", archive.getvalue())
    for split, text in (("train", train), ("test", test)):
        url = f"{base}/domainnet/txt/sketch_{split}.txt"
        seed_download(tmp_path, url, text.encode())
    folder = prepare("domainnet/sketch", data_dir=tmp_path)
    rows = [*records.rows(folder, "train", channels=3, size=4, domain=3),
            *records.rows(folder, "test", channels=3, size=4, domain=3)]  # fmt: skip
    found = sorted((row.label, int(row.image[0, 0, 0]), row.domain) for row in rows)
    assert found == [(6, 0, 3), (6, 20, 3), (8, 10, 3)]
    assert records.class_names(folder)[6] == "ant"


def test_domainnet_out_of_reach_is_one_line(tmp_path, offline, capsys):
    assert main(["domainnet/real", "--data_dir", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "the tests have no network" in line and "copy its folder" in line


def test_another_archive_of_that_name_is_refused(
    tmp_path, monkeypatch, offline, capsys
):
    publish("mnist", tmp_path, monkeypatch)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"other"))
    arguments = ["mnist", "--data_dir", str(tmp_path / "tfds")]
    assert main([*arguments, "--manual_dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "train-labels-idx1-ubyte.gz" in error and "checksum" in error
    with pytest.raises(DataError, match="get it with"):
        load("mnist", data_dir=tmp_path / "tfds")


@pytest.mark.parametrize("manual", [False, True])
def test_offline_without_archives_is_one_line(tmp_path, offline, capsys, manual):
    arguments = ["cifar100", "--data_dir", str(tmp_path / "tfds")]
    if manual:
        arguments += ["--manual_dir", str(tmp_path)]
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    for words in (
        "cifar-100-binary.tar.gz",
        "cs.toronto.edu",
        "no network",
        "manual_dir",
    ):
        assert words in line


@pytest.mark.parametrize("folder", ["downloads/cifar100", "downloads"])
def test_an_earlier_download_is_used(tmp_path, monkeypatch, offline, folder):
    publish("cifar100", tmp_path, monkeypatch)
    ((url, info),) = tfds.builder_cls("cifar100").url_infos.items()
    archive = tmp_path / "tfds" / folder / resource.get_dl_fname(url, info.checksum)
    archive.parent.mkdir(parents=True)
    (tmp_path / info.filename).rename(archive)
    with pytest.raises(DataError, match="no network"):  # not known to be whole
        prepare("cifar100", data_dir=tmp_path / "tfds")
    resource.write_info_file(
        url=url,
        path=epath.Path(archive),
        dataset_name="cifar100",
        original_fname=info.filename,
        url_info=info,
    )
    prepare("cifar100", data_dir=tmp_path / "tfds")
    assert len(load("cifar100", data_dir=tmp_path / "tfds").train_image) == 20


def test_a_manual_dir_that_is_not_there(tmp_path, capsys):
    arguments = ["mnist", "--data_dir", str(tmp_path), "--manual_dir", "/nowhere"]
    assert main(arguments) == 2
    assert capsys.readouterr().err == "mnist: --manual_dir /nowhere: no such folder\n"


def test_an_unknown_name_is_one_line_with_the_known_ones(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["cifra10", "--data_dir", str(tmp_path)])
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and "'cifra10'" in line and "'cifar10'" in line


def test_svhn_is_what_it_is_called_here(tmp_path, offline, capsys):
    assert main(["svhn", "--data_dir", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("svhn: ") and "train_32x32.mat" in line


def test_addresses_out_of_reach_are_found_out_quickly():
    closed = "http://127.0.0.1:9/x"  # the discard port: refused at once
    failed = reachable([closed], patience=2.0)
    assert list(failed) == [closed]
    assert reachable([], patience=2.0) == {}


def test_an_address_that_never_answers_runs_out_of_patience(monkeypatch):
    release = threading.Event()

    def stuck(url, timeout):
        release.wait(20)
        raise OSError

    monkeypatch.setattr(module.urllib.request, "urlopen", stuck)
    assert reachable(["http://a", "http://b"], patience=0.05) == {
        "http://a": "no answer within 0.05 s",
        "http://b": "no answer within 0.05 s",
    }
    release.set()


def test_the_command_in_the_error_is_a_command(tmp_path):
    with pytest.raises(DataError) as error:
        load("cifar10", data_dir=tmp_path / "with space")
    command = shlex.split(str(error.value).split("get it with: ")[1])
    assert command[:3] == ["python", "-m", "ocssl_jax.data.prepare"]
    help_text = subprocess.run(
        [sys.executable, *command[1:], "--help"], capture_output=True, text=True
    )
    assert help_text.returncode == 0
    assert str(tmp_path / "with space") in command


def test_digits_can_be_prepared_too(tmp_path):
    assert main(["digits", "--data_dir", str(tmp_path)]) == 0
    assert len(load("digits", data_dir=tmp_path).train_image) == 1438


def test_the_standin_leaves_the_proxy_as_it_was():
    proxy = vars(lazy_imports_utils.tensorflow)
    with tf_standin():
        outer = proxy["_module"]
        with tf_standin():
            assert proxy["_module"] is not outer
        assert proxy["_module"] is outer
        assert "tensorflow" not in sys.modules
    assert "_module" not in proxy
    with pytest.raises(RuntimeError), tf_standin():
        raise RuntimeError
    assert "_module" not in proxy
