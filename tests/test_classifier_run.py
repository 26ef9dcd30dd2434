"""A run that is judged by its own classifier, from config to report, on digits."""

import csv
import json

import numpy as np
import pytest
from data.prepared import prepare_pictures
from marks import slow
from PIL import Image

from configs import mir_cifar10, mir_miniimagenet, mir_mnist_permuted, mir_mnist_split
from ocssl_jax import build, encoders, evaluate, experiment, metrics, settings
from ocssl_jax.encoding import Encoder
from ocssl_jax.feed import feed
from ocssl_jax.report.__main__ import main as report
from ocssl_jax.seeds import in_turn

SEEDS, TASKS = (0, 3), 5


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def small(config, data_dir):
    """As the config has it, but on digits and with a small network."""
    config.seeds = SEEDS
    config.stream.update({"dataset": "digits", "data_dir": str(data_dir)})
    config.stream.samples = 250 if config.stream.samples else 0
    config.backbone.update({"name": "mlp", "width": 16})
    return config


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "er_mir"
    config = small(mir_mnist_split.get_config("er_mir"), data_dir)
    config.checkpoint.encoders = True
    config = settings.resolve(config, {})
    return folder, config, experiment.run(config, folder, {})


def accuracies(folder):
    """[seed, task, experience], NaN for tasks to come."""
    found = np.full((len(SEEDS), TASKS, TASKS), np.nan)
    for row in csv.DictReader((folder / "accuracy.csv").open()):
        assert row["probe"] == "classifier"
        place = SEEDS.index(int(row["seed"])), int(row["task"])
        found[(*place, int(row["after_experience"]))] = float(row["accuracy"])
    return found


def test_the_classifier_is_asked_about_every_task_met(finished):
    found = accuracies(finished[0])
    met = np.arange(TASKS)[:, None] <= np.arange(TASKS)[None, :]
    assert (np.isnan(found) == ~met[None]).all()
    assert found[:, 0, 0].min() > 60  # two digits are soon told apart


def test_accuracy_and_forgetting_are_those_of_the_paper(finished):
    folder, _, table = finished
    found = json.loads((folder / "summary.json").read_text())["metrics"]
    a = accuracies(folder)
    final = a[:, :, -1]
    best = np.nanmax(a, axis=2)
    np.testing.assert_allclose(found["accuracy"]["per_seed"], final.mean(axis=1))
    drop = (best - final)[:, :-1].mean(axis=1)  # the last task has forgotten nothing
    np.testing.assert_allclose(found["forgetting"]["per_seed"], drop)
    assert "| strategy |" in table and " accuracy |" in table and " FA " not in table


def test_the_saved_encoder_and_head_classify_as_the_run_did(finished):
    folder, config, _ = finished
    made = build.build(config, fresh=False)
    a = accuracies(folder)
    for i, seed in enumerate(SEEDS):
        variables = encoders.load(folder / "encoder" / f"seed_{seed}.safetensors")
        for task, rows in enumerate(made.bench.test):
            encode = Encoder(made.learning.encode, batch_size=64)
            features = encode(variables, made.dataset.test_image[rows])
            logits = features @ variables["head"]["kernel"] + variables["head"]["bias"]
            right = logits.argmax(axis=1) == made.dataset.test_label[rows]
            assert 100 * right.mean() == pytest.approx(a[i, task, -1])


def test_every_experience_can_be_judged_again(finished):
    folder, _, _ = finished
    evaluate.main([str(folder), "--probe", "classifier"])
    again = folder / "evaluation" / "classifier" / "accuracy.csv"
    rows = lambda path: sorted(path.read_text().splitlines())
    met = [r for r in rows(again) if r in set(rows(folder / "accuracy.csv"))]
    assert met == rows(folder / "accuracy.csv")


def test_the_report_shows_what_was_published_beside_it(finished, capsys):
    folder, _, _ = finished
    report([str(folder)])
    head, _, row = capsys.readouterr().out.splitlines()[2:5]
    columns = [part.strip() for part in head.strip("|").split("|")]
    assert columns[2:6] == ["accuracy", "published", "forgetting", "published"]
    cells = [part.strip() for part in row.strip("|").split("|")]
    assert (cells[3], cells[5]) == ("87.6 ± 0.7", "7 ± 0.9")


def learnt(config, batches=14):
    """Losses of the first stream batches of a config's first seed."""
    config.seeds, config.probe.names, config.stream.limit = (0,), (), batches
    made = build.build(settings.resolve(config, {}))
    carrier = in_turn(made.learning.init, made.learning.step)
    arrived = feed(
        made.dataset, made.schedules, range(batches), length=batches, labelled=True
    )
    states = carrier.init(config.seeds, arrived)
    states, seen = carrier.learn(states, arrived, batches, [True])
    losses = [float(step[0]["loss"]) for step in carrier.metrics(seen, batches)]
    assert np.isfinite(losses).all()
    return made, losses


@pytest.mark.parametrize(
    ("module", "variant"),
    [
        (mir_mnist_split, "gem"),
        (mir_mnist_permuted, "er"),
        (mir_mnist_permuted, "iid_online"),
        *slow(*((mir_mnist_split, v) for v in ("iid_offline", "gen", "gen_mir"))),
    ],
)
def test_rows_of_the_mnists_learn_a_few_batches(module, variant, data_dir):
    _, losses = learnt(small(module.get_config(variant), data_dir))
    assert min(losses[5:]) < losses[0]


def pictures(classes, each, size):
    """One colour a class, nearly."""
    rng = np.random.default_rng(0)
    for label in range(classes * each):
        noise = rng.integers(0, 40, (size, size, 3), np.uint8)
        yield noise + np.uint8(20 * (label % classes % 10)), label % classes


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cifar10")
    names = [f"class {i}" for i in range(10)]
    splits = {"train": list(pictures(10, 40, 32)), "test": list(pictures(10, 2, 32))}
    prepare_pictures(folder, "cifar10", names=names, **splits)
    return folder


# The paper's network with fewer channels takes a minute to compile; what is around it
# is the same with a perceptron, and `test_configs.py` has the whole one's shapes.
NETWORKS = [
    {"name": "mlp", "width": 8},
    pytest.param({"name": "reduced_resnet18", "width": 2}, marks=pytest.mark.slow),
]
every_network = pytest.mark.parametrize("network", NETWORKS)


@every_network
@pytest.mark.parametrize("variant", ["er_mir-100-5", "icarl-20"])
def test_rows_of_cifar10_learn_a_few_batches(variant, network, cifar10):
    """Data of its layout and size."""
    config = mir_cifar10.get_config(variant)
    config.stream.data_dir = str(cifar10)
    config.backbone.update(network)
    config.strategy.icarl.task_size = 80
    made, _ = learnt(config)  # eight batches a task
    assert made.dataset.mean == made.dataset.std == (0.5,) * 3
    assert made.dataset.train_image.shape[1:] == (32, 32, 3)
    assert len(set(made.schedules[0].experience)) == 2


def coded(variant, fidelity, network, data_dir):
    """A row of the hybrid with 20 images a task, once for each of its networks."""
    config = mir_cifar10.get_config(variant)
    config.seeds, config.fidelity, config.log.every = (0,), fidelity, 1
    config.stream.update({"data_dir": str(data_dir), "samples": 20, "epochs": 2})
    config.backbone.update(network)
    config.strategy.update({"memory_size": 40, "replay_size": 10})
    config.strategy[variant].autoencoder.width = 4
    config.strategy.ae_mir.candidates = 20
    config.checkpoint.encoders = True
    config.reference.stream.epochs = 2
    return settings.resolve(config, {})


@pytest.mark.parametrize(
    ("variant", "fidelity", "network"),
    [
        ("ae_mir", "paper", NETWORKS[0]),
        pytest.param("ae", "reference", NETWORKS[0], marks=pytest.mark.slow),
        pytest.param(
            "ae_mir",
            "reference",
            {"name": "reduced_resnet18", "width": 2},
            marks=pytest.mark.slow,
        ),
    ],
)
@pytest.mark.slow
def test_the_hybrid_runs_from_config_to_report(
    variant, fidelity, network, cifar10, tmp_path
):
    folder = tmp_path / "run"
    config = coded(variant, fidelity, network, cifar10)
    experiment.run(config, folder, {})
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    # Two batches for the autoencoder, two for the classifier, whose images are kept.
    held = [line["memory_images"] for line in found[:8]]
    assert held == [0, 0, 10, 20, 20, 20, 30, 40]
    assert [line["rows"] for line in found[:8]] == [0, 0, 10, 10, 0, 0, 20, 20]
    error = [line["loss_autoencoder"] for line in found]
    assert 0 < error[-1] < error[0]
    summary = json.loads((folder / "summary.json").read_text())
    assert 0 <= summary["metrics"]["accuracy"]["mean"] <= 100
    assert (folder / "report" / "memory.png").exists()
    # The saved encoder has its lens, so that it can be judged again.
    saved = encoders.load(folder / "encoder" / "seed_0.safetensors")
    assert set(saved["lens"]) == {"params", "batch_stats"}
    evaluate.main([str(folder), "--probe", "classifier"])
    again = folder / "evaluation" / "classifier" / "accuracy.csv"
    rows = lambda path: set(path.read_text().splitlines())
    assert rows(folder / "accuracy.csv") <= rows(again)


@every_network
def test_rows_of_miniimagenet_learn_a_few_batches(network, tmp_path):
    """Folders of 64, 16 and 20 classes."""
    counts, place = {"train": 64, "val": 16, "test": 20}, 0
    for split, count in counts.items():
        for name in range(place, place + count):
            folder = tmp_path / split / f"n{name:02d}"
            folder.mkdir(parents=True)
            for i, (image, _) in enumerate(pictures(1, 15, 8)):
                Image.fromarray(image + np.uint8(name)).save(folder / f"{i}.png")
        place += count
    config = mir_miniimagenet.get_config("er_mir")
    config.stream.data_dir = str(tmp_path)
    config.backbone.update(network)
    config.strategy.memory_size = 40
    made, _ = learnt(config)
    assert made.dataset.train_image.shape == (1200, 84, 84, 3)
    assert [len(test) for test in made.bench.test] == [15] * 20
    assert made.bench.classes[3] == tuple(range(15, 20))


def test_the_papers_metrics_on_a_hand_made_matrix():
    nan = np.nan
    a = [[90.0, 95.0, 40.0], [nan, 80.0, 60.0], [nan, nan, 70.0]]
    found = metrics.measure(a, [10, 20, 70], scope="classifier")
    assert found["accuracy"] == pytest.approx(170 / 3)
    assert found["forgetting"] == pytest.approx((55 + 20) / 2)
    assert found["FA"] == pytest.approx((400 + 1200 + 4900) / 100)
    assert np.isnan(found["CA"])
    shuffled = metrics.measure([[50.0], [70.0]], [1, 1], scope="classifier_iid")
    assert shuffled["accuracy"] == 60 and np.isnan(shuffled["forgetting"])
