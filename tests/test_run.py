"""A whole run in this process: what it writes, and how it breaks down."""

import csv
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kill_config import get_config
from safetensors.numpy import load_file

from ocssl_jax import (
    dotted,
    evaluate,
    experiment,
    judging,
    probing,
    settings,
    workdir,
)
from ocssl_jax.backbones import make_backbone
from ocssl_jax.build import build
from ocssl_jax.checkpoint import Checkpoints
from ocssl_jax.encoding import Encoder
from ocssl_jax.errors import Interrupted, TrainingError, UsageError
from ocssl_jax.stop import Stop
from ocssl_jax.train import Run


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def config_with(data_dir, **fields):
    config = get_config()
    config.stream.data_dir = str(data_dir)
    for name, value in fields.items():
        dotted.put(config, name.replace("__", "."), value)
    return settings.resolve(config, {})


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "er"
    config = config_with(
        data_dir, strategy__name="er", baselines=("none", "random"), chunk=2
    )
    table = experiment.run(config, folder, {"strategy.name": "er"})
    return folder, config, table


def test_the_workdir_holds_what_the_contract_says(finished):
    folder, config, table = finished
    names = ("config.json", "metrics.jsonl", "accuracy.csv", "summary.json")
    for name in (*names, "report/index.html", "encoder/encoder.json"):
        assert (folder / name).stat().st_size > 0
    for name in ("accuracy", "matrix", "memory", "losses"):
        assert (folder / f"report/{name}.png").stat().st_size > 1000
    written = json.loads((folder / "config.json").read_text())
    assert written["config"] == settings.as_json(config)
    assert written["overrides"] == {"strategy.name": "er"}
    assert written["versions"]["jax"] == jax.__version__
    for row in ("| er ", "| no strategy ", "| random encoder "):
        assert row in table


def test_the_log_has_every_step_once_in_order(finished):
    folder, config, _ = finished
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [r["step"] for r in records] == list(range(1, 13))
    assert [r["experience"] for r in records] == [0] * 4 + [1] * 4 + [2] * 4
    seen = [r["samples_seen"] for r in records]
    # Two digits a task, 258 to 262 training images each, in four even batches.
    assert np.diff(seen, prepend=0).min() >= 64 and seen[-1] >= 3 * 258
    assert np.diff(seen, prepend=0).max() <= config.stream.batch_size
    for r in records:
        assert r["loss"] == pytest.approx(np.mean(r["per_seed"]["loss"]))
        assert r["loss"] == pytest.approx(r["loss_ssl"], rel=1e-5)
        assert r["learning_rate"] == pytest.approx(config.optimizer.learning_rate)
        assert len(r["per_seed"]["loss"]) == 2


def test_the_summary_follows_from_the_accuracies(finished):
    folder, config, _ = finished
    summary = json.loads((folder / "summary.json").read_text())
    rows = list(csv.DictReader((folder / "accuracy.csv").open()))
    assert len(rows) == 2 * 2 * 3 * 5  # seeds, probes, experiences, tasks
    sizes = np.asarray(summary["test_sizes"])
    joint = [
        sum(
            float(r["accuracy"]) * sizes[int(r["task"])]
            for r in rows
            if r["probe"] == "linear"
            and r["seed"] == str(seed)
            and r["after_experience"] == "2"
        )
        / sizes.sum()
        for seed in config.seeds
    ]
    final = summary["metrics"]["FA"]
    assert final["per_seed"] == pytest.approx(joint)
    assert final["mean"] == pytest.approx(np.mean(joint))
    assert final["std"] == pytest.approx(np.std(joint, ddof=1))
    assert set(summary["baselines"]) == {"none", "random"}
    assert summary["steps"] == 12
    assert summary["throughput"]["train_images_per_s"] > 0
    flat = summary["baselines"]["random"]
    assert flat["FA"]["mean"] == pytest.approx(flat["CA"]["mean"])


def test_validation_accuracy_is_that_of_the_fitted_probe_on_the_validation_images(
    finished,
):
    folder, config, _ = finished
    summary = json.loads((folder / "summary.json").read_text())
    done = build(config)
    run = Run(done, config, folder)
    run.checkpoints.close()
    index = np.concatenate(done.bench.train)
    held = np.concatenate(done.bench.val)
    image, label = done.dataset.train_image, done.dataset.train_label
    expected = []
    for state in run.seeds.split(run.states):
        encoder = done.learning.method.encoder(state.params["method"], state.model)
        encode = Encoder(done.learning.encode, batch_size=64)
        predict = done.probes["ridge"](
            None, encode(encoder, image[index]), label[index], None, None
        )
        right = predict(encode(encoder, image[held])) == label[held]
        expected.append(100 * right.mean())
    found = summary["validation"]
    assert list(found) == ["linear", "ridge"]
    assert found["ridge"]["per_seed"] == pytest.approx(expected)
    assert found["ridge"]["mean"] == pytest.approx(np.mean(expected))
    rows = (folder / "validation.csv").read_text().splitlines()
    assert rows[0] == "seed,probe,after_experience,task,accuracy"
    assert len(rows) == 1 + 2 * 2 * 3 * 5  # seeds, probes, experiences, tasks


def test_a_run_that_holds_nothing_out_has_no_validation_accuracy(data_dir, tmp_path):
    config = config_with(
        data_dir,
        strategy__name="none",
        baselines=(),
        stream__limit=1,
        stream__val_ratio=0.0,
        probe__names=("ridge",),
    )
    experiment.run(config, tmp_path / "run", {})
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["validation"] == {} and summary["metrics"]
    assert not (tmp_path / "run" / "validation.csv").exists()


def test_the_exported_encoder_is_the_final_one(finished, data_dir):
    folder, config, _ = finished
    about = json.loads((folder / "encoder/encoder.json").read_text())
    tensors = load_file(folder / "encoder/seed_1.safetensors")
    variables: dict = {}
    for name, tensor in tensors.items():
        *groups, last = name.split(".")
        node = variables
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = tensor
    module = make_backbone(
        about["backbone"],
        image_size=about["image_size"],
        dtype="float32",
        width=about["width"],
        depth=about["depth"],
        stem=about["stem"],
        pool=about["pool"],
    )
    done = build(config)
    images = done.dataset.test_image[:20]
    x = (images / 255.0 - np.asarray(about["mean"])) / np.asarray(about["std"])
    rebuilt = module.apply(variables, jnp.asarray(x, jnp.float32), train=False)
    run = Run(done, config, folder)
    assert run.step == run.course.total
    state = run.seeds.split(run.states)[1]
    trained = done.learning.method.encoder(state.params["method"], state.model)
    expected = Encoder(done.learning.encode, batch_size=64)(trained, images)
    run.checkpoints.close()
    np.testing.assert_allclose(rebuilt, expected, rtol=1e-4, atol=1e-5)


def test_probing_never_changes_training(finished, data_dir, tmp_path):
    _, config, _ = finished
    final = []
    for names in (("ridge",), ()):
        other = config.copy_and_resolve_references()
        other.baselines, other.probe.names = (), names
        folder = tmp_path / f"run{len(names)}"
        experiment.run(other, folder, {})
        final.append((folder / "encoder/seed_0.safetensors").read_bytes())
        assert (folder / "report/index.html").exists()
    assert final[0] == final[1]


def test_a_loss_that_is_not_finite_stops_the_run(data_dir, tmp_path):
    config = config_with(
        data_dir, strategy__name="none", optimizer__learning_rate=1e30, baselines=()
    )
    with pytest.raises(TrainingError, match=r"stream batch \d+, seed \d"):
        experiment.run(config, tmp_path / "run", {})
    assert not (tmp_path / "run" / "summary.json").exists()
    saved = Checkpoints(tmp_path / "run" / "checkpoints", keep=1)
    assert (saved.latest() or 0) < 12
    saved.close()


@pytest.mark.slow
def test_per_seed_values_follow_the_order_of_the_seeds(data_dir, tmp_path):
    tables = {}
    for seeds in ((0, 1), (1, 0)):
        config = config_with(
            data_dir, seeds=seeds, strategy__name="none", baselines=(), stream__limit=2
        )
        folder = tmp_path / f"run{seeds[0]}"
        experiment.run(config, folder, {})
        summary = json.loads((folder / "summary.json").read_text())
        tables[seeds] = summary["metrics"]["FA"]["per_seed"]
        assert summary["seeds"] == list(seeds)
    assert tables[0, 1] == tables[1, 0][::-1]
    assert tables[0, 1][0] != tables[0, 1][1]


def test_probes_may_be_off_beside_a_baseline(data_dir, tmp_path):
    config = config_with(
        data_dir,
        strategy__name="er",
        baselines=("none", "random"),
        probe__names=(),
        stream__limit=2,
    )
    experiment.run(config, tmp_path / "run", {})
    assert (tmp_path / "run" / "report" / "index.html").exists()
    assert (tmp_path / "run" / "baselines" / "none" / "summary.json").exists()


def test_a_stop_that_was_asked_for_is_not_forgotten(data_dir, tmp_path):
    config = config_with(data_dir, baselines=("none",), probe__names=())
    stop = Stop()
    stop.asked = True
    with pytest.raises(Interrupted):
        experiment.run(config, tmp_path / "run", {}, stop)
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.slow
def test_a_probe_ends_after_the_seed_that_it_is_at(data_dir, tmp_path, monkeypatch):
    config = config_with(
        data_dir,
        strategy__name="none",
        baselines=(),
        probe__names=("ridge",),
        stream__limit=5,
    )
    stop, probed = Stop(), []

    def judged(*given, seed, after, met):
        stop.asked |= after == 0
        probed.append((after, seed))
        return probing.judge(*given, seed=seed, after=after, met=met)

    monkeypatch.setattr(judging, "judge", judged)
    with pytest.raises(Interrupted, match="while probing after stream batch 4"):
        experiment.run(config, tmp_path / "run", {}, stop)
    assert probed == [(0, 0)]
    experiment.run(config, tmp_path / "run", {})
    assert probed[1:] == [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.slow
def test_accuracies_lost_from_an_unfinished_run_are_missed(data_dir, tmp_path):
    config = config_with(data_dir, strategy__name="none", baselines=())
    folder = tmp_path / "run"
    experiment.run(config, folder, {})
    (folder / "summary.json").unlink()
    rows = (folder / "accuracy.csv").read_text().splitlines()
    kept = [row for row in rows if row.split(",")[2] != "0"]
    (folder / "accuracy.csv").write_text("\n".join(kept) + "\n")
    with pytest.raises(UsageError, match="lacks experience 0"):
        experiment.run(config, folder, {})
    # Validation accuracies are missed too; those after the end are measured again.
    (folder / "accuracy.csv").write_text("\n".join(rows) + "\n")
    path = folder / "validation.csv"
    rows = path.read_text().splitlines()
    path.write_text("\n".join(row for row in rows if row.split(",")[2] != "4") + "\n")
    experiment.run(config, folder, {})
    assert path.read_text().splitlines() == rows
    (folder / "summary.json").unlink()
    path.unlink()
    with pytest.raises(UsageError, match=r"validation.csv lacks experience 0"):
        experiment.run(config, folder, {})
    path.write_text("\n".join([*rows, "0,ridge,0,7,50.0"]) + "\n")
    with pytest.raises(UsageError, match=r"validation.csv is damaged .*task=7.* of 5"):
        experiment.run(config, folder, {})


@pytest.mark.slow
def test_a_report_that_was_deleted_is_made_again(data_dir, tmp_path):
    config = config_with(data_dir, strategy__name="none", stream__limit=2)
    folder = tmp_path / "run"
    told = experiment.run(config, folder, {})
    shutil.rmtree(folder / "report")
    assert experiment.run(config, folder, {}).startswith(told)
    for name in ("index.html", "accuracy.png", "matrix.png", "losses.png"):
        assert (folder / "report" / name).exists()


@pytest.mark.parametrize("text", ['{"strategy": 1}', '{"strategy": 1, "metrics": 3}'])
def test_a_damaged_summary_is_refused(data_dir, tmp_path, text):
    config = config_with(data_dir, strategy__name="none")
    folder = tmp_path / "run"
    workdir.write(
        folder / "config.json",
        json.dumps({"config": settings.as_json(config), "overrides": {}}),
    )
    (folder / "summary.json").write_text(text)
    with pytest.raises(UsageError, match=r"summary.json is damaged"):
        experiment.run(config, folder, {})


def test_two_runs_never_share_a_workdir(data_dir, tmp_path):
    config = config_with(data_dir)
    with (
        workdir.held(tmp_path / "run"),
        pytest.raises(UsageError, match="in use by another run"),
    ):
        experiment.run(config, tmp_path / "run", {})


def test_an_unlabelled_stream_works_with_probes_off(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    (tmp_path / "data" / "train").mkdir(parents=True)
    for i in range(40):
        pixels = rng.integers(0, 256, (12, 10, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / "train" / f"{i:03}.png")
    (tmp_path / "data" / "train" / "broken.jpg").write_bytes(b"\xff\xd8 nothing")
    config = config_with(
        tmp_path / "data",
        stream__dataset="folder",
        stream__image_size=8,
        stream__kind="iid",
        stream__tasks=2,
        stream__batch_size=8,
        stream__order=(),
        strategy__replay_size=12,
        probe__names=(),
        baselines=(),
    )
    experiment.run(config, tmp_path / "run", {})
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["skipped_files"] == 1
    assert summary["samples_seen"] == 40
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    for name in ("memory", "held", "map", "neighbours"):  # of what was learnt from
        assert (tmp_path / "run" / "report" / f"{name}.png").exists()
    assert "Features of 40 images of the stream" in page and "same class" not in page
    labelled = config_with(
        tmp_path / "data",
        **{"stream__dataset": "folder", "stream__image_size": 8, "stream__kind": "iid"},
    )
    with pytest.raises(UsageError, match=r"probe.names=\(\)"):
        build(labelled)


def save_pictures(root, *, seed=0):
    """Twelve pictures of two classes to learn, and as many to test on."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    for i in range(24):
        path = root / ("train", "test")[i % 2] / ("cat", "dog")[i // 12] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)


@pytest.mark.slow
def test_a_workdir_stays_with_its_data_wherever_they_lie(tmp_path):
    def run_on(root, **fields):
        config = config_with(
            root,
            stream__dataset="folder",
            stream__image_size=8,
            stream__tasks=2,
            stream__batch_size=6,
            stream__order=(),
            stream__val_ratio=0.0,
            strategy__name="none",
            probe__names=("ridge",),
            baselines=(),
            **fields,
        )
        return experiment.run(config, tmp_path / "run", {})

    for place, seed in (("here", 0), ("other", 1)):
        save_pictures(tmp_path / place, seed=seed)
    first = run_on(tmp_path / "here")
    path = tmp_path / "run" / "config.json"
    written = json.loads(path.read_text())
    (tmp_path / "here").rename(tmp_path / "there")
    assert run_on(tmp_path / "there") == first
    with pytest.raises(UsageError, match=r"other data: .* stream.data_dir"):
        run_on(tmp_path / "other")
    (tmp_path / "run" / "summary.json").unlink()  # unfinished: it would go on
    (tmp_path / "there" / "train" / "cat" / "00.png").unlink()
    with pytest.raises(UsageError, match=r"other data: .* stream.data_dir"):
        run_on(tmp_path / "there")
    args = [str(tmp_path / "run"), f"--data_dir={tmp_path / 'other'}"]
    with pytest.raises(SystemExit, match="2"):
        evaluate.main(args)
    del written["data"]  # as older versions wrote it
    path.write_text(json.dumps(written))
    run_on(tmp_path / "other")


def test_tasks_without_test_images_are_not_judged(tmp_path):
    def on(root, **fields):
        return config_with(
            root,
            stream__dataset="folder",
            stream__image_size=8,
            stream__tasks=2,
            stream__batch_size=6,
            stream__order=(0, 1),
            stream__val_ratio=0.0,
            strategy__name="none",
            probe__names=("ridge",),
            baselines=("random",),
            **fields,
        )

    save_pictures(tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "test" / "cat")
    for scopes in (("upto",), ("joint", "upto")):
        folder, config = (
            tmp_path / scopes[0],
            on(tmp_path / "data", probe__scopes=scopes),
        )
        experiment.run(config, folder, {})
        (folder / "summary.json").unlink()
        experiment.run(config, folder, {})  # goes on from the end
        found = json.loads((folder / "summary.json").read_text())["probes"]
        assert found["ridge-upto"]["FA"]["mean"] is not None
        after = {row["after_experience"] for row in rows(folder)}
        assert after == {"upto": {"1"}, "joint": {"0", "1"}}[scopes[0]]
    shutil.rmtree(tmp_path / "data" / "test" / "dog")
    with pytest.raises(UsageError, match="no labelled test images"):
        build(on(tmp_path / "data"))


def rows(folder):
    return list(csv.DictReader((folder / "accuracy.csv").open()))


def test_a_downstream_data_set_is_told_apart_too(data_dir, tmp_path):
    """By a launch, and by an evaluation that goes on in its own folder."""
    stream = tmp_path / "stream"
    save_pictures(stream)
    for place, seed in (("a", 1), ("b", 2)):
        save_pictures(tmp_path / place, seed=seed)
    config = config_with(
        stream,
        stream__dataset="folder",
        stream__image_size=8,
        stream__tasks=1,
        stream__batch_size=6,
        stream__order=(),
        strategy__name="none",
        probe__names=("ridge",),
        probe__dataset="folder",
        probe__data_dir=str(tmp_path / "a"),
        baselines=(),
    )
    experiment.run(config, tmp_path / "run", {})
    args = [
        str(tmp_path / "run"),
        "--dataset=folder",
        f"--dataset_dir={tmp_path / 'a'}",
    ]
    evaluate.main(args)
    (tmp_path / "a").rename(tmp_path / "gone")
    (tmp_path / "b").rename(tmp_path / "a")
    with pytest.raises(UsageError, match=r"other data: .* probe.data_dir"):
        experiment.run(config, tmp_path / "run", {})
    with pytest.raises(SystemExit, match="2"):
        evaluate.main(args)
