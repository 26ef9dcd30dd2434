"""From the stream fields of a config to experiences and batches; what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs import default
from ocssl_jax import dotted, settings
from ocssl_jax.build import check_names, make_stream
from ocssl_jax.data.orders import torch_permutation
from ocssl_jax.errors import UsageError

CLASSES = ("ant", "bee", "cow")
DOMAINS = ("real", "clip")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two domains of three classes, 20 training and 4 test pictures each."""
    root = tmp_path_factory.mktemp("domains")
    for d, domain in enumerate(DOMAINS):
        for c, name in enumerate(CLASSES):
            for split, n in (("train", 20), ("test", 4)):
                folder = root / f"{domain}_{split}" / name
                folder.mkdir(parents=True)
                for i in range(n):
                    grey = Image.new("L", (6, 6), 100 * d + 10 * c)
                    grey.save(folder / f"{i:02d}.png")
    return root


@pytest.fixture
def copied(root, tmp_path):
    return Path(shutil.copytree(root, tmp_path / "copied"))


def config_with(root, **fields):
    config = default.get_config()
    config.stream.update({"dataset": "domain_folder", "data_dir": str(root)})
    config.stream.update({"image_size": 4, "kind": "domain", "tasks": 2})
    config.probe.names = ("ridge",)
    for name, value in fields.items():
        dotted.put(config, name.replace("__", "."), value)
    config = settings.resolve(config, {})
    check_names(config)
    return config


def grey(dataset, images):
    return dataset.train_image[images][:, 0, 0, 0]


def test_a_domain_stream(root):
    dataset, bench, (plan,) = make_stream(config_with(root))
    assert dataset.domain_names == ("clip", "real")  # by name
    assert (grey(dataset, bench.train[0]) >= 100).all()
    assert [len(v) for v in bench.val] == [6, 6]
    assert plan.experience.tolist() == [0] * 6 + [1] * 6
    assert np.flatnonzero(plan.boundary).tolist() == [0, 6]


def test_the_order_is_that_of_the_domains(root):
    dataset, bench, _ = make_stream(config_with(root, stream__order=(1, 0)))
    assert (grey(dataset, bench.train[0]) < 100).all()


def test_each_domain_may_have_epochs_of_its_own(root):
    _, bench, (plan,) = make_stream(config_with(root, stream__epochs=3))
    for number, images in enumerate(bench.train):
        own = plan.experience == number
        shown = plan.id[own][plan.mask[own]]
        assert np.bincount(shown)[images].tolist() == [3] * len(images)
        assert len(shown) == 3 * len(images)
    assert plan.boundary.sum() == len(bench.train)


def test_a_blurred_stream(root):
    config = config_with(root, stream__kind="blurred", stream__tasks=3, stream__blur=5)
    _, bench, (plan,) = make_stream(config)
    assert [len(s) for s in bench.segments] == [10, 10]
    assert plan.boundary.sum() == 5
    assert plan.mask.sum() == 2 * 3 * 18


def test_an_iid_stream_of_several_epochs(root):
    config = config_with(root, stream__kind="iid", stream__tasks=3, stream__epochs=4)
    _, _, (plan,) = make_stream(config)
    assert plan.mask.sum() == 4 * 2 * 3 * 18
    assert np.bincount(plan.id[plan.mask])[plan.id.ravel()].min() == 4
    ends = np.flatnonzero(np.diff(plan.experience, append=3)) + 1
    assert ends.tolist() == [15, 29, 44]  # 11 batches an epoch, thirds of 44 rounded


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"stream__kind": "blured"}, "config.stream.kind must be one of class, irreg"),
        ({"stream__tasks": 20}, "config.stream: 2 domains make 2 tasks, not 20"),
        ({"stream__order": (0, 2)}, "config.stream: a domain order must hold each"),
        (
            {"stream__dataset": "cifar100"},
            "one of clear10, .*clear100_streaming, domainnet, domain_folder, got",
        ),
        (
            {
                "stream__epochs": 2,
                "stream__kind": "blurred",
                "stream__tasks": 3,
                "stream__blur": 5,
            },
            "config.stream: epochs must be 1 .* 'class', 'domain' may have more, not 2",
        ),
        (
            {"stream__kind": "blurred", "stream__tasks": 3},
            "config.stream: experience 0 has 36 images: too few to give 100",
        ),
        (
            {"stream__kind": "iid", "stream__tasks": 3, "stream__batch_size": 100},
            "config.stream: 2 batches do not make 3 tasks",
        ),
        (
            {"stream__dataset": "clear100_streaming", "stream__kind": "class"},
            "config.stream.kind must be domain for 'clear100_streaming'",
        ),
        (
            {"stream__dataset": "clear100_streaming"},
            "only probes fitted to one domain alone are fair",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(root, fields, words):
    with pytest.raises(UsageError, match=words) as error:
        make_stream(config_with(root, **fields))
    assert "\n" not in str(error.value)


def test_a_class_that_is_only_tested_is_named(copied):
    (copied / "clip_test" / "apple").mkdir()
    Image.new("L", (6, 6)).save(copied / "clip_test" / "apple" / "0.png")
    words = "test images and no training images of the classes apple$"
    with pytest.raises(UsageError, match=words):
        make_stream(config_with(copied))


@pytest.mark.parametrize("split", ["train", "test"])
def test_pictures_outside_the_class_folders_are_named(copied, split):
    Image.new("L", (6, 6)).save(copied / f"real_{split}" / "stray.png")
    with pytest.raises(UsageError, match=f"outside .*: real_{split}/stray.png; move"):
        make_stream(config_with(copied))
    if split == "train":  # unlabelled pictures are welcome where no label is read
        make_stream(config_with(copied, probe__names=()))


def test_every_domain_has_images_of_the_classes_in_use(copied):
    for name in CLASSES[1:]:
        shutil.rmtree(copied / "real_train" / name)
    make_stream(config_with(copied))
    seed = next(s for s in range(99) if torch_permutation(3, seed=s)[0] > 0)
    fields = {"stream__classes": 1, "stream__seed": seed, "probe__names": ()}
    with pytest.raises(UsageError, match=r"1 classes in use .* in the domains real$"):
        make_stream(config_with(copied, **fields))


@pytest.mark.parametrize("probe", [{"names": ()}, {"dataset": "cifar10"}])
def test_without_its_own_probes_streaming_needs_its_data(tmp_path, probe):
    fields = {f"probe__{name}": value for name, value in probe.items()}
    fields["stream__dataset"] = "clear100_streaming"
    with pytest.raises(UsageError, match="unpack clear100-train-image-only"):
        make_stream(config_with(tmp_path, **fields))
