"""Which images each classifier is fitted, tuned and tested on, and what comes of it."""

from itertools import pairwise

import numpy as np
import pytest
from kill_config import get_config
from PIL import Image

from ocssl_jax import data, dotted, scopes, settings
from ocssl_jax.accuracy import Record
from ocssl_jax.build import build
from ocssl_jax.constant import judge_constant
from ocssl_jax.errors import TrainingError, UsageError
from ocssl_jax.probes import linear, ridge
from ocssl_jax.probing import (
    Features,
    Probing,
    budgets,
    judge,
    probing,
)
from ocssl_jax.rows import Rows, Split
from ocssl_jax.scopes import CLASSIFIER, Variant, variants

NONE = np.zeros(0, np.int32)
# Three tasks of two classes on a line. Class 4 lies where class 0 does and class 5 near
# class 1, so that task 2 is told apart from task 0 by nothing: only a classifier that
# knows the task is always right.
PLACE = np.array([0.0, 10.0, 20.0, 30.0, 0.0, 11.0])
PER_CLASS = 4


def test_rows_are_read_when_they_are_needed():
    array = np.arange(20).reshape(10, 2)
    rows = Rows(array, np.array([7, 1, 3, 5]))
    assert rows.shape == (4, 2) and len(rows[1:3]) == 2
    np.testing.assert_array_equal(rows[1:3], [[2, 3], [6, 7]])
    np.testing.assert_array_equal(rows[np.array([0, 3])], array[[7, 5]])
    np.testing.assert_array_equal(rows[np.arange(4) > 2], array[[5]])


def on_test(*args, **fields):
    """The records on test images."""
    return judge(*args, **fields).test


def blank(label, task):
    """Images of no content."""
    image = np.zeros((len(label), 1, 1, 1), np.uint8)
    return Split(Rows(image, np.arange(len(label))), label, task)


def line(copies):
    """Images of every class; the 'features' are their places."""
    label = np.repeat(np.arange(6, dtype=np.int32), copies)
    return blank(label, label // 2)


def made(copies=PER_CLASS):
    train, val, test = line(copies), line(2), line(3)
    shares = {1.0: np.arange(len(train.label))}
    features = Features(*(PLACE[s.label][:, None] for s in (train, val, test)))
    return Probing(train, val, test, 3, shares), features


def nearest(calls=None):
    """Nearest class mean, the smallest label where two are as near."""

    def fit(key, train_x, train_y, val_x, val_y):
        if calls is not None:
            calls.append((train_y.tolist(), val_y.tolist()))
        classes = np.unique(train_y)
        means = np.stack([train_x[train_y == c].mean(axis=0) for c in classes])

        def predict(x):
            distance = np.abs(x[:, None, 0] - means[None, :, 0])
            return classes[np.argmin(distance, axis=1)]

        return predict

    return fit


def way(scope="joint", ratio=1.0, probe="nearest"):
    return Variant(probe, scope, ratio, False)


def matrix(records, label, experiences=3):
    found = np.full((3, experiences), np.nan)
    for record in records:
        if record.probe == label:
            found[record.task, record.after_experience] = record.accuracy
    return found


def test_validation_images_are_asked_about_too():
    images, features = made()
    one_off = images.val.label.copy()
    one_off[images.val.task == 1] = 0  # which no classifier of task 1 knows
    images = images._replace(val=images.val._replace(label=one_off))
    ways = [way("separate")]
    found = judge({"nearest": nearest()}, ways, images, features, seed=5, after=0)
    assert [(r.seed, r.probe, r.task, r.accuracy) for r in found.val] == [
        (5, "nearest-separate", 0, 100.0),
        (5, "nearest-separate", 1, 0.0),
        (5, "nearest-separate", 2, 100.0),
    ]
    assert [r.accuracy for r in found.test] == [100.0, 100.0, 100.0]


def test_accuracies_of_every_scope_by_hand():
    images, features = made()
    ways = [way(scope) for scope in ("joint", "upto", "separate")]
    records = []
    for after in range(3):
        records += on_test(
            {"nearest": nearest()}, ways, images, features, seed=0, after=after
        )
    # Of task 2 the images of class 4 are taken for class 0 and those of 5 are right.
    column = [100.0, 100.0, 50.0]
    np.testing.assert_array_equal(
        matrix(records, "nearest"), np.transpose([column] * 3)
    )
    nan = np.nan
    upto = [[100, 100, 100], [nan, 100, 100], [nan, nan, 50]]
    np.testing.assert_array_equal(matrix(records, "nearest-upto"), upto)
    own = matrix(records, "nearest-separate")
    np.testing.assert_array_equal(own, np.full((3, 3), 100.0))


@pytest.mark.parametrize(
    ("scope", "groups"),
    [
        ("joint", [[0, 1, 2, 3, 4, 5]]),
        ("upto", [[0, 1, 2, 3]]),
        ("separate", [[0, 1], [2, 3], [4, 5]]),
    ],
)
def test_a_classifier_sees_the_images_of_its_tasks_alone(scope, groups):
    images, features = made()
    calls = []
    probes = {"nearest": nearest(calls)}
    judge(probes, [way(scope)], images, features, seed=0, after=1)
    expected = [
        (np.repeat(g, PER_CLASS).tolist(), np.repeat(g, 2).tolist()) for g in groups
    ]
    assert calls == expected


def test_after_the_last_experience_upto_is_joint():
    rng = np.random.default_rng(0)
    images, _ = made()
    features = Features(
        *(
            (PLACE[s.label][:, None] + rng.normal(0, 9, (len(s.label), 4))).astype("f4")
            for s in images[:3]
        )
    )
    fit = linear(
        learning_rate=0.05,
        epochs=5,
        batch_size=8,
        patience=5,
        factor=3.0,
        min_learning_rate=1e-4,
    )
    ways = [way(scope, probe="linear") for scope in ("joint", "upto")]
    records = on_test({"linear": fit}, ways, images, features, seed=3, after=2)
    joint, upto = records[:3], records[3:]
    assert [r.accuracy for r in joint] == [r.accuracy for r in upto]
    assert len({r.accuracy for r in joint}) > 1


def test_a_task_of_one_class_is_always_recognised():
    images, features = made()
    one = images._replace(
        train=images.train._replace(task=images.train.label),
        val=images.val._replace(task=images.val.label),
        test=images.test._replace(task=images.test.label),
        tasks=6,
    )
    probes = {"ridge": ridge(alpha=1.0)}  # which refuses a single class by itself
    ways = [way(scope, probe="ridge") for scope in ("upto", "separate")]
    records = on_test(probes, ways, one, features, seed=0, after=0)
    assert [r.task for r in records] == [0, *range(6)]
    assert {r.accuracy for r in records} == {100.0}


def test_the_task_of_an_image_is_its_place_in_the_stream_not_its_label():
    """Two domains of the same two classes, which swap their places in the second."""
    label = np.tile(np.arange(2, dtype=np.int32), 8)
    task = np.repeat(np.arange(2, dtype=np.int32), 8)
    split = Split(
        Rows(np.zeros((16, 1, 1, 1), np.uint8), np.arange(len(label))), label, task
    )
    images = Probing(split, split, split, 2, {1.0: np.arange(16)})
    place = np.where(task == 0, label, 1 - label)[:, None].astype("f4")
    features = Features(place, place, place)
    ways = [way(scope) for scope in ("joint", "upto", "separate")]
    records = on_test({"nearest": nearest()}, ways, images, features, seed=0, after=0)
    found = {(r.probe, r.task): r.accuracy for r in records}
    assert found == {
        ("nearest", 0): 50.0,  # both classes have the same mean: all are called 0
        ("nearest", 1): 50.0,
        ("nearest-upto", 0): 100.0,
        ("nearest-separate", 0): 100.0,
        ("nearest-separate", 1): 100.0,
    }


def test_an_encoder_that_never_changes_is_judged_once_but_for_growing_tasks():
    images, features = made()
    ways = [way(scope) for scope in ("joint", "upto", "separate")]
    calls = []
    found = judge_constant(
        {"nearest": nearest(calls)}, ways, images, features, seed=0, after=[0, 2]
    )
    assert len(calls) == 1 + 3 + 2
    expected = []
    for after in (0, 2):
        expected += on_test(
            {"nearest": nearest()}, ways, images, features, seed=0, after=after
        )
    assert sorted(found) == sorted(expected)


def test_a_task_without_labels_or_test_images_is_left_out():
    images, features = made()
    none = images._replace(
        shares={1.0: np.flatnonzero(images.train.task != 1)},
        test=Split(*(field[images.test.task != 2] for field in images.test)),
    )
    kept = features.test[images.test.task != 2]
    records = on_test(
        {"nearest": nearest()},
        [way("separate")],
        none,
        features._replace(test=kept),
        seed=0,
        after=0,
    )
    assert [(r.task, r.accuracy) for r in records] == [(0, 100.0)]


def test_features_that_are_not_finite_are_told_in_words():
    images, features = made()
    features.val[3] = np.inf
    with pytest.raises(TrainingError, match="not finite after experience 1, seed 7"):
        judge({"nearest": nearest()}, [way()], images, features, seed=7, after=1)


# --- shares of the labels ---


def probe_config(**fields):
    config = get_config().probe
    config.update(fields)
    return config


def test_shares_are_nested_stratified_and_fixed_by_their_seed():
    rng = np.random.default_rng(1)
    label = rng.permutation(np.repeat([0, 1, 2, 3], [40, 20, 20, 3])).astype(np.int32)
    task = (label // 2).astype(np.int32)
    split = Split(
        Rows(np.zeros((len(label), 1, 1, 1), np.uint8), np.arange(len(label))),
        label,
        task,
    )
    ratios = (0.05, 0.1, 0.5, 1.0)
    shares = budgets(split, probe_config(ratios=ratios))
    counts = [np.bincount(label[shares[r]]).tolist() for r in ratios]
    assert counts == [[2, 1, 1, 1], [4, 2, 2, 1], [20, 10, 10, 2], [40, 20, 20, 3]]
    for small, large in pairwise(ratios):
        assert set(shares[small]) < set(shares[large])
    again = budgets(split, probe_config(ratios=(0.1,)))
    np.testing.assert_array_equal(again[0.1], shares[0.1])
    other = budgets(split, probe_config(ratios=(0.1,), seed=1))
    assert set(other[0.1]) != set(shares[0.1])


def test_every_task_of_a_class_gets_its_share():
    label = np.tile(np.repeat([0, 1], 10), 3).astype(np.int32)
    task = np.repeat([0, 1, 2], 20).astype(np.int32)
    split = Split(
        Rows(np.zeros((60, 1, 1, 1), np.uint8), np.arange(len(label))), label, task
    )
    kept = budgets(split, probe_config(ratios=(0.2,)))[0.2]
    pairs, counts = np.unique([label[kept], task[kept]], axis=1, return_counts=True)
    assert pairs.shape[1] == 6 and set(counts) == {2}


@pytest.mark.parametrize("scope", ["joint", "upto", "separate"])
def test_classifiers_are_fitted_on_their_share_only(scope):
    images, features = made(copies=8)
    half = np.arange(0, 48, 2)
    images = images._replace(shares={0.5: half, 1.0: np.arange(48)})
    calls = []
    probes = {"nearest": nearest(calls)}
    ways = [way(scope, 0.5), way(scope)]
    records = on_test(probes, ways, images, features, seed=0, after=2)
    fitted = sorted(label for train, _ in calls[: len(calls) // 2] for label in train)
    assert fitted == np.repeat(range(6), 4).tolist()
    tuned = [val for _, val in calls]
    assert tuned[: len(tuned) // 2] == tuned[len(tuned) // 2 :]  # validation is whole
    suffix = "" if scope == "joint" else f"-{scope}"
    assert {r.probe for r in records} == {f"nearest{suffix}-0.5", f"nearest{suffix}"}


def test_only_labelled_images_are_gathered(tmp_path):
    small = build(digits(tmp_path, probe__ratios=(0.1, 0.25)))
    images = probing(small, digits(tmp_path, probe__ratios=(0.1, 0.25)))
    whole = probing(small, digits(tmp_path))
    assert len(images.train.label) == len(images.shares[0.25])
    assert set(images.shares[0.1]) < set(images.shares[0.25])
    per_class = np.bincount(whole.train.label)
    kept = np.bincount(images.train.label[images.shares[0.1]])
    np.testing.assert_array_equal(kept, np.floor(0.1 * per_class + 0.5))
    assert len(whole.train.label) == sum(map(len, small.bench.train))


# --- what is probed ---


def digits(tmp_path, **fields):
    config = get_config()
    config.stream.data_dir = str(tmp_path)
    for name, value in fields.items():
        dotted.put(config, name.replace("__", "."), value)
    return settings.resolve(config, {})


def test_names_in_the_table_say_scope_and_share():
    probe = probe_config(
        names=("linear", "knn"), scopes=("joint", "separate"), ratios=(0.1, 1.0)
    )
    ways = variants(probe, iid=False)
    assert [w.label for w in ways] == [
        "linear-0.1",
        "knn-0.1",
        "linear",
        "knn",
        "linear-separate-0.1",
        "knn-separate-0.1",
        "linear-separate",
        "knn-separate",
    ]
    assert scopes.leading(ways).label == "linear"
    assert scopes.leading(ways[4:]).label == "linear-separate"
    assert scopes.leading(ways[:2]).label == "linear-0.1"


def test_a_summary_has_the_metrics_that_each_scope_defines():
    records = [
        Record(0, label, j, i, 10.0 * i + j)
        for label in ("knn", "knn-separate")
        for j in range(2)
        for i in range(2)
    ] + [Record(0, "knn-upto", j, i, 50.0) for j in range(2) for i in range(j + 1)]
    probe = probe_config(names=("knn",), scopes=("upto", "joint", "separate"))
    summary = scopes.judged(records, variants(probe, iid=False), [3, 1])
    assert summary["probe"] == "knn"
    assert summary["metrics"] == summary["probes"]["knn"]
    assert summary["metrics"]["FA"]["mean"] == pytest.approx((3 * 1 + 11) / 4)
    assert summary["probes"]["knn-separate"] == summary["probes"]["knn"]
    assert summary["probes"]["knn-upto"]["forgetting"]["mean"] is None
    assert summary["probes"]["knn-upto"]["CA_seen"]["mean"] == 50.0
    mixed = scopes.judged(records, variants(probe, iid=True)[1:], [3, 1])
    for metric, value in mixed["metrics"].items():  # nothing is learnt before the rest
        defined = metric in ("FA", "CA")
        assert value == (summary["metrics"][metric] if defined else value)
        assert (value["mean"] is not None) == defined


def test_in_an_iid_stream_images_belong_to_the_tasks_of_their_classes(tmp_path):
    config = digits(tmp_path, stream__kind="iid")
    experiment = build(config)
    images = probing(experiment, config)
    classes = experiment.bench.classes
    for split in images[:3]:
        for task, members in enumerate(classes):
            assert set(split.label[split.task == task]) == set(members)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"probe__scopes": ("joint", "upto"), "probe__dataset": "digits"},
            "must be joint with probe.dataset",
        ),
        (
            {"probe__scopes": ("separate",), "stream__tasks": 10},
            "nothing to tell apart",
        ),
        (
            {"probe__scopes": ("joint", "upto"), "stream__kind": "iid"},
            "must not be upto with stream.kind iid",
        ),
        ({"stream__classes": 1, "stream__tasks": 1}, "at least 2 classes"),
        ({"stream__val_ratio": 0.0}, "there are none: raise stream.val_ratio"),
        (
            {"stream__val_ratio": 0.0, "probe__scopes": ("separate",)},
            "images of task 0 and there are none",
        ),
        (
            {"probe__val_ratio": 0.0, "probe__dataset": "digits"},
            "there are none: raise probe.val_ratio",
        ),
    ],
)
def test_what_cannot_be_probed_is_refused_before_anything_runs(tmp_path, fields, words):
    with pytest.raises(UsageError, match=words):
        build(digits(tmp_path, **fields))


# --- another data set ---


def pictures(folder, *, size=(12, 10), classes=3, each=20, labelled=True):
    rng = np.random.default_rng(0)
    for split, count in (("train", each), ("test", 4)):
        for c in range(classes):
            place = folder / split / (f"class{c}" if labelled else "")
            place.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (*size, 3), np.uint8)
                Image.fromarray(pixels).save(place / f"{c}-{i:03}.png")
    return str(folder)


def on_pictures(tmp_path, **fields):
    stream = {"stream__dataset": "folder", "stream__image_size": 8}
    stream |= {"stream__tasks": 3, "stream__order": (), "stream__batch_size": 10}
    return digits(tmp_path / "stream", **(stream | fields))


def test_another_data_set_is_one_task_of_the_encoders_size(tmp_path):
    pictures(tmp_path / "stream")
    other = pictures(tmp_path / "other", size=(9, 14), classes=4)
    fields = {"probe__dataset": "folder", "probe__data_dir": other}
    config = on_pictures(tmp_path, **fields)
    experiment = build(config)
    images = probing(experiment, config)
    assert images.tasks == 1 and images.sizes == [16]
    assert images.train.image.shape == (4 * 18, 8, 8, 3)
    # A tenth of each class is kept for tuning, whatever the stream keeps.
    assert np.bincount(images.val.label).tolist() == [2] * 4
    assert np.bincount(images.train.label).tolist() == [18] * 4
    (train,), (val,) = experiment.judged[1].train, experiment.judged[1].val
    assert sorted([*train, *val]) == list(range(80))
    # The stream is what it was, and so is the encoder.
    assert experiment.dataset.train_image.shape[0] == 60
    other_seed = build(on_pictures(tmp_path, probe__seed=7, **fields)).judged[1]
    assert set(other_seed.val[0]) != set(val)
    summary = scopes.judged(
        [Record(0, "linear", 0, 0, 30.0), Record(0, "linear", 1, 0, 50.0)],
        variants(config.probe, iid=False)[:1],
        images.sizes,
    )
    assert summary["metrics"]["CA"]["mean"] == 40.0
    assert summary["metrics"]["forgetting"]["mean"] is None


def test_an_unlabelled_stream_can_be_probed_on_labelled_images(tmp_path):
    pictures(tmp_path / "stream", labelled=False)
    other = pictures(tmp_path / "other")
    fields = {"stream__kind": "iid", "probe__data_dir": other}
    config = on_pictures(tmp_path, **fields, probe__dataset="folder")
    images = probing(build(config), config)
    assert images.sizes == [12]
    with pytest.raises(UsageError, match="no labelled test images"):
        build(on_pictures(tmp_path, **fields))


def test_another_data_set_must_fit_the_encoder(tmp_path):
    other = pictures(tmp_path / "other")
    fields = {"probe__dataset": "folder", "probe__data_dir": other}
    with pytest.raises(UsageError, match="1 channel like the stream's 'digits', "):
        build(digits(tmp_path, **fields))
    pictures(tmp_path / "bare", labelled=False)
    pictures(tmp_path / "stream")
    with pytest.raises(UsageError, match="must have labelled test images"):
        build(
            on_pictures(
                tmp_path,
                probe__dataset="folder",
                probe__data_dir=str(tmp_path / "bare"),
            )
        )
    with pytest.raises(UsageError, match=r"config.probe: .*nowhere"):
        build(
            digits(
                tmp_path,
                probe__dataset="mnist",
                probe__data_dir=str(tmp_path / "nowhere"),
            )
        )


@pytest.mark.parametrize("name", ["clear10_streaming", "clear100_streaming"])
def test_a_data_set_that_tests_on_its_next_domain_is_no_downstream_one(tmp_path, name):
    with pytest.raises(UsageError, match="images that the probe is fitted to"):
        build(digits(tmp_path, probe__dataset=name))


def test_the_streams_own_folder_is_where_another_data_set_is_looked_for(tmp_path):
    config = digits(tmp_path, probe__dataset="digits")
    dataset, bench = build(config).judged
    own = data.load("digits", data_dir=tmp_path)
    np.testing.assert_array_equal(dataset.test_label, own.test_label)
    assert len(bench.test) == 1 and len(bench.test[0]) == len(own.test_label)


def classifying(after, ways, *, met=False, first=0):
    """Rows of a method's own classifier, which takes every image for class `first`."""
    images, features = made()
    head = {"kernel": np.zeros((1, 8)), "bias": -abs(np.arange(8.0) - first)}
    return judge(
        {"nearest": nearest()},
        ways,
        images,
        features._replace(head=head),
        seed=0,
        after=after,
        met=met,
    ).test


@pytest.mark.parametrize("iid", [False, True])
def test_a_classifier_that_knows_whom_it_has_met_chooses_among_these(iid):
    """Of 8 classes that it has outputs for 6 come: the last, 5, is nearest to 7."""
    own = Variant(CLASSIFIER, "joint", 1.0, False, iid=iid)
    rows = classifying(2, [own], met=True, first=7)
    assert [row.accuracy for row in rows] == [0.0, 0.0, 50.0]
    assert [row.accuracy for row in classifying(2, [own], first=7)] == [0.0] * 3
    if not iid:  # after two tasks 3 is the nearest of the classes met
        rows = classifying(1, [own], met=True, first=7)
        assert [row.accuracy for row in rows] == [0.0, 50.0]


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_methods_own_classifier_is_asked_about_tasks_met(after):
    """Whatever other probes there are, which know tasks to come."""
    own = Variant(CLASSIFIER, "joint", 1.0, False)
    alone, beside = classifying(after, [own]), classifying(after, [own, way()])
    assert [row for row in beside if row.probe == CLASSIFIER] == alone
    assert [(row.task, row.accuracy) for row in alone] == [
        (task, 50.0 if task == 0 else 0.0) for task in range(after + 1)
    ]
    assert len(beside) == len(alone) + 3
    mixed = Variant(CLASSIFIER, "joint", 1.0, False, iid=True)
    assert len(classifying(after, [mixed])) == 3  # a shuffled stream meets all at once
