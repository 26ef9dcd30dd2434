"""The maps, the neighbours and the forgetting of a report say what the numbers say."""

import numpy as np
import pytest
from test_report import SIZES, clusters, drawn, records

from ocssl_jax import metrics
from ocssl_jax.accuracy import Record
from ocssl_jax.report import forgetting, map, neighbours
from ocssl_jax.report.features import MOST, Seen, seen, unit
from ocssl_jax.rows import Rows, Split

RNG = np.random.default_rng(0)


def test_principal_components_are_those_of_the_covariance():
    x = RNG.normal(size=(50, 6)) @ RNG.normal(size=(6, 6)) + 3
    found, shares = map.principal(x)
    values = np.linalg.eigvalsh(np.cov(x.T))[::-1]
    np.testing.assert_allclose(found.var(axis=0, ddof=1), values[:2])
    np.testing.assert_allclose(shares, values[:2] / values.sum())
    assert abs(np.corrcoef(found.T)[0, 1]) < 1e-9
    again, _ = map.principal(-x)  # the signs of a decomposition are anybody's
    np.testing.assert_allclose(np.abs(again), np.abs(found))
    assert (found[np.abs(found).argmax(axis=0), [0, 1]] > 0).all()


@pytest.mark.parametrize("shape", [(3, 1), (4, 7)])
def test_features_that_are_all_the_same_have_a_map(shape):
    found, shares = map.principal(np.ones(shape))
    assert not found.any() and not shares.any()
    assert np.isfinite(map.neighbourly(np.ones(shape, np.float32))).all()


def test_t_sne_keeps_neighbours_together_and_gives_the_same_map_again():
    given = clusters(60)
    found = map.neighbourly(given.feature)
    apart = np.linalg.norm(found[:, None] - found[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (given.label[apart.argmin(axis=1)] == given.label).mean() > 0.95
    np.testing.assert_array_equal(found, map.neighbourly(given.feature))


def test_the_maps_show_every_image_once_in_the_colour_of_its_class(
    monkeypatch, tmp_path
):
    given = clusters(30)
    panels = drawn(monkeypatch, lambda: map.map_picture(tmp_path / "x.png", seen=given))
    for axes in panels:
        dots = {c.get_label(): c.get_offsets() for c in axes.collections}
        assert {n: len(xy) for n, xy in dots.items()} == {
            f"class {i}": 10 for i in range(3)
        }
    got = np.concatenate([c.get_offsets() for c in panels[0].collections])
    want = map.principal(given.feature)[0][np.argsort(given.label, kind="stable")]
    np.testing.assert_allclose(got, want)


def test_many_classes_or_none_are_coloured_by_task():
    many = clusters(60, classes=12)._replace(class_names=["x"] * 12)
    assert [name for name, _, _ in map.groups(many)] == [
        f"task {i + 1}" for i in range(6)
    ]
    none = clusters(9)._replace(label=np.full(9, -1), task=np.zeros(9, int))
    [(name, rows, _)] = map.groups(none)
    assert name == "task 1" and rows.all()


def test_images_without_a_class_are_shown_where_they_do_not_cover_each_other(
    monkeypatch, tmp_path
):
    xy = RNG.normal(size=(300, 2)) * [3, 0.1]
    rows = map.apart(xy, 0.1)
    apart = np.abs(xy[rows][:, None] - xy[rows][None]) / np.ptp(xy, axis=0)
    assert (apart.max(axis=2) + np.eye(len(rows)) >= 0.1).all() and len(rows) > 20
    near = np.abs(xy[:, None] - xy[rows][None]) / np.ptp(xy, axis=0)
    assert (near.max(axis=2).min(axis=1) < 0.1).all()  # there is room for no other
    given = clusters(30)
    unlabelled = given._replace(label=np.full(30, -1), task=np.zeros(30, int))
    for seen_images, shown in ((given, False), (unlabelled, True)):
        panels = drawn(
            monkeypatch,
            lambda x=seen_images: map.map_picture(tmp_path / "x.png", seen=x),
        )
        assert all(bool(axes.artists) == shown for axes in panels)


def test_nearest_are_those_of_the_largest_cosine_without_oneself():
    x = RNG.normal(size=(20, 5)) * RNG.uniform(0.1, 9, size=(20, 1))
    rows = np.array([3, 11])
    got = neighbours.nearest(x, rows, 4)
    for row, found in zip(rows, got, strict=True):
        cosine = [
            x[row] @ other / np.linalg.norm(x[row]) / np.linalg.norm(other)
            for other in x
        ]
        order = [i for i in np.argsort(cosine)[::-1] if i != row]
        assert found.tolist() == order[:4]
    assert np.isfinite(unit(np.zeros((2, 3)))).all()


def test_the_sheet_of_neighbours_counts_those_of_the_same_class():
    sheet = neighbours.neighbour_sheet(clusters(30))
    assert [g.title for g in sheet.groups] == [f"class {i} · 8 of 8" for i in range(3)]
    for i, group in enumerate(sheet.groups):  # itself, a gap, eight others
        assert group.images[:, 0, 0, 0].tolist() == [i, 255, *[i] * 8]
    few = neighbours.neighbour_sheet(clusters(3))
    assert [len(g.images) for g in few.groups] == [4] * 3
    assert few.groups[0].title == "class 0 · 0 of 0"  # there is no other
    unlabelled = clusters(20)._replace(label=np.full(20, -1))
    sheet = neighbours.neighbour_sheet(unlabelled)
    assert sheet.groups[0].title == "image 1"
    assert len(sheet.groups) == neighbours.QUERIES


def test_queries_are_of_every_class_or_spread_over_them():
    label = np.repeat(np.arange(100), 3)
    rows = neighbours.asked(label, 12)
    assert len(rows) == 12 and len(set(label[rows])) == 12
    assert label[rows[0]] == 0 and label[rows[-1]] == 99


def test_some_test_images_are_seen_and_none_that_tell_nothing():
    count = 3 * MOST
    images = np.zeros((count, 2, 2, 1), np.uint8)
    split = Split(Rows(images, np.arange(count)), np.arange(count), np.arange(count))
    features = lambda x: np.ones((len(x), 4), np.float32)
    found = seen(features, split, ["a"])
    assert isinstance(found, Seen) and len(found.label) == MOST
    assert found.label[0] == 0 and found.label[-1] == count - 1
    assert seen(lambda x: features(x) * np.nan, split, ["a"]) is None
    two = Split(split.image[:2], split.label[:2], split.task[:2])
    assert seen(features, two, ["a"]) is None


def test_forgetting_of_each_task_averages_to_the_metric(monkeypatch, tmp_path):
    rows = [*records(0, "linear"), *records(1, "linear")]
    lost = forgetting.forgotten(rows, "linear", 3)
    assert lost.shape == (2, 3) and np.isnan(lost[:, 2]).all()
    summary = metrics.summarise(rows, probe="linear", sizes=SIZES)
    # The metric counts the last task, of which nothing can be forgotten, as 0.
    np.testing.assert_allclose(
        np.nansum(lost, axis=1) / 3, summary["forgetting"]["per_seed"]
    )
    (axes,) = drawn(
        monkeypatch,
        lambda: forgetting.forgetting_picture(
            tmp_path / "x.png", dropped=lost, probe="linear"
        ),
    )
    heights = [bar.get_height() for bar in axes.patches]
    np.testing.assert_allclose(heights, lost[:, :2].mean(axis=0))


def test_forgetting_of_a_hand_made_run():
    table = [[90, 80, 70], [10, 60, 65], [5, 5, 50]]  # [task][experience]
    rows = [
        Record(0, "p", j, i, a)
        for i, row in enumerate(table)
        for j, a in enumerate(row)
    ]
    np.testing.assert_allclose(forgetting.forgotten(rows, "p", 3), [[20, 0, np.nan]])
