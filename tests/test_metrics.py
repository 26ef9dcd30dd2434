import csv
import io

import numpy as np
import pytest

from ocssl_jax import accuracy, metrics
from ocssl_jax.accuracy import Record

NAN = np.nan
# Rows are tasks, columns experiences; every number below is worked out by hand.
A = np.array([[60.0, 50.0, 40.0], [10.0, 70.0, 30.0], [20.0, 30.0, 80.0]])
EQUAL, IRREGULAR = [10, 10, 10], [10, 30, 60]


def test_all_conventions_on_a_hand_made_matrix():
    m = metrics.measure(A, EQUAL)
    assert tuple(m) == metrics.ALL
    assert m["FA"] == pytest.approx(150 / 3)
    assert m["CA"] == pytest.approx((30 + 50 + 50) / 3)
    assert m["CA_seen"] == pytest.approx((60 + 60 + 50) / 3)
    assert m["forgetting"] == pytest.approx((20 + 40 + 0) / 3)
    assert m["forgetting_first"] == pytest.approx((20 + 40 + 0) / 3)
    assert m["forward_transfer"] == pytest.approx((15 + 30) / 2)


def test_the_course_is_over_tasks_met_where_others_were_not_asked_about():
    course = lambda m: metrics.course(m, IRREGULAR)
    np.testing.assert_array_equal(course(A), metrics.overall(A, IRREGULAR))
    met = np.where(np.tri(3, dtype=bool).T, A, np.nan)  # of tasks i <= j
    np.testing.assert_array_equal(course(met), metrics.seen(A))


def test_joint_accuracy_weighs_samples_and_seen_tasks_are_weighed_alike():
    m = metrics.measure(A, IRREGULAR)
    joint = [(60 + 30 + 120) / 10, (50 + 210 + 180) / 10, (40 + 90 + 480) / 10]
    np.testing.assert_allclose(metrics.overall(A, IRREGULAR), joint)
    assert m["FA"] == pytest.approx(61.0)
    assert m["CA"] == pytest.approx((21 + 44 + 61) / 3)
    assert m["CA_seen"] == pytest.approx((60 + 60 + 50) / 3)


def test_best_accuracy_counts_only_once_the_task_was_learnt():
    matrix = np.array([[60.0, 65.0, 40.0], [90.0, 70.0, 30.0], [95.0, 30.0, 80.0]])
    m = metrics.measure(matrix, EQUAL)
    assert m["forgetting"] == pytest.approx((25 + 40 + 0) / 3)
    assert m["forgetting_first"] == pytest.approx((20 + 40 + 0) / 3)


def test_an_encoder_that_improves_on_old_tasks_forgets_less_than_nothing_at_first():
    m = metrics.measure([[50.0, 60.0], [0.0, 40.0]], [1, 1])
    assert m["forgetting"] == 0.0
    assert m["forgetting_first"] == pytest.approx(-5.0)


def test_unmeasured_experiences_are_skipped():
    sparse = A.copy()
    sparse[:, 1] = NAN
    m = metrics.measure(sparse, EQUAL)
    assert m["CA"] == pytest.approx((30 + 50) / 2)
    assert m["CA_seen"] == pytest.approx((60 + 50) / 2)
    assert m["forgetting"] == pytest.approx((20 + 0 + 0) / 3)
    assert m["forgetting_first"] == pytest.approx((20 + 0) / 2)


def test_a_run_cut_short_is_judged_by_its_last_experience():
    m = metrics.measure(A[:, :2], EQUAL)
    assert m["FA"] == pytest.approx(50.0)
    assert m["forgetting"] == pytest.approx((10 + 0) / 2)


def test_a_joint_accuracy_that_lacks_a_task_is_unknown_unless_the_task_is_empty():
    partial = A.copy()
    partial[2, 0] = NAN
    assert np.isnan(metrics.overall(partial, EQUAL)[0])
    assert metrics.overall(partial, [10, 30, 0])[0] == pytest.approx(22.5)
    assert metrics.measure(partial, EQUAL)["CA"] == pytest.approx(50.0)


def test_more_experiences_than_tasks():
    wide = np.array([[10.0, 20.0, 30.0], [5.0, 50.0, 45.0]])
    m = metrics.measure(wide, [1, 1])
    assert m["CA_seen"] == pytest.approx((10 + 35 + 37.5) / 3)
    assert m["forgetting"] == pytest.approx((0 + 5) / 2)
    assert m["forward_transfer"] == pytest.approx(5.0)


def test_separate_probes_have_every_metric():
    assert metrics.measure(A, IRREGULAR, scope="separate") == metrics.measure(
        A, IRREGULAR
    )


def test_a_probe_over_the_tasks_so_far_has_no_forgetting():
    ragged = np.where(np.tri(3, dtype=bool).T, A, NAN)  # tasks to come are unmeasured
    m = metrics.measure(ragged, IRREGULAR, scope="upto")
    assert m["CA_seen"] == pytest.approx((60 + 60 + 50) / 3)
    assert m["FA"] == pytest.approx(61.0)
    assert {k for k in m if not np.isnan(m[k])} == {"FA", "CA_seen"}
    cut = metrics.measure(ragged[:, :2], IRREGULAR, scope="upto")
    assert np.isnan(cut["FA"])  # a task is still to come
    assert cut["CA_seen"] == pytest.approx((60 + 60) / 2)


def test_another_data_set_is_no_task_of_the_stream():
    m = metrics.measure([[30.0, 50.0, 40.0]], [7], scope="downstream")
    assert (m["FA"], m["CA"]) == (pytest.approx(40.0), pytest.approx(40.0))
    assert np.isnan([m["CA_seen"], m["forgetting"], m["forgetting_first"]]).all()


def test_no_number_warns(recwarn):
    metrics.measure([[NAN, NAN], [NAN, 3.0]], [1, 1])
    assert not recwarn.list


def test_task_accuracy_from_predictions():
    got = accuracy.task_accuracy(
        [0, 1, 1, 5, 2], [0, 1, 2, 5, 3], [0, 0, 0, 2, 2], n_tasks=4
    )
    np.testing.assert_allclose(got, [200 / 3, NAN, 50.0, NAN])


def test_joint_accuracy_of_the_matrix_is_the_accuracy_of_the_predictions():
    rng = np.random.default_rng(0)
    predicted, label, task = rng.integers(0, 3, (3, 200))
    column = accuracy.task_accuracy(predicted, label, task, n_tasks=3)
    joint = metrics.overall(column[:, None], np.bincount(task))
    assert joint[0] == pytest.approx(100 * np.mean(predicted == label))


def test_records_survive_the_csv_file():
    rows = [
        r
        for j in range(3)
        for r in accuracy.to_records(A[:, j], seed=1, probe="knn", after_experience=j)
    ]
    rows += accuracy.to_records([1.0], seed=0, probe="knn", after_experience=9)
    text = io.StringIO()
    csv.writer(text).writerows([accuracy.FIELDS, *rows])
    back = accuracy.parse(csv.DictReader(io.StringIO(text.getvalue())))
    assert back == rows
    matrix = accuracy.to_matrix(back, seed=1, probe="knn", n_tasks=3)
    np.testing.assert_array_equal(matrix, A)


def test_unmeasured_tasks_leave_no_record_and_return_as_nan():
    rows = accuracy.to_records([NAN, 5.0], seed=0, probe="p", after_experience=1)
    assert rows == [Record(0, "p", 1, 1, 5.0)]
    matrix = accuracy.to_matrix(rows, seed=0, probe="p", n_tasks=2)
    np.testing.assert_array_equal(matrix, [[NAN, NAN], [NAN, 5.0]])


def test_a_repeated_record_counts_once_the_last_one():
    rows = [Record(0, "p", 0, 0, 1.0), Record(0, "p", 0, 0, 2.0)]
    assert accuracy.to_matrix(rows, seed=0, probe="p", n_tasks=1) == 2.0


def test_an_encoder_that_never_changes_is_a_flat_curve():
    once = accuracy.to_records(A[:, 0], seed=0, probe="p", after_experience=0)
    held = accuracy.hold(once, experiences=3)
    matrix = accuracy.to_matrix(held, seed=0, probe="p", n_tasks=3)
    m = metrics.measure(matrix, IRREGULAR)
    assert m["CA"] == pytest.approx(m["FA"]) and m["forgetting"] == 0.0


def test_summary_is_mean_and_sample_deviation_over_seeds():
    def rows(seed, matrix):
        return [
            Record(seed, "linear", j, i, matrix[i][j]) for i in (0, 1) for j in (0, 1)
        ]

    records = rows(3, [[10.0, 20.0], [30.0, 40.0]]) + rows(
        1, [[20.0, 30.0], [40.0, 50.0]]
    )
    other = [Record(7, "knn", 0, 0, 99.0)]
    fa = metrics.summarise(records + other, probe="linear", sizes=[1, 1])["FA"]
    assert fa == {"mean": 35.0, "std": pytest.approx(50**0.5), "per_seed": [30.0, 40.0]}
    single = metrics.summarise(rows(0, A), probe="linear", sizes=[1, 1])
    assert set(metrics.METRICS) <= set(single)
    assert single["FA"]["std"] is None


def test_undefined_values_are_none_so_that_the_summary_is_json():
    assert metrics.spread([NAN, 2.0]) == {
        "mean": 2.0,
        "std": None,
        "per_seed": [None, 2.0],
    }
    assert metrics.spread([NAN])["mean"] is None


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: metrics.measure(A, [1, 2]), "sizes must give"),
        (lambda: metrics.measure(A, [0, 0, 0]), "at least one"),
        (lambda: metrics.measure(A[0], [1]), r"\[tasks experiences\]"),
        (lambda: metrics.measure(np.full((1, 1), NAN), [1]), "no measurement"),
        (lambda: metrics.summarise([], probe="x", sizes=[1]), "probe 'x'"),
        (lambda: accuracy.parse([{"seed": 1}]), "lacks"),
        (
            lambda: accuracy.parse([Record(0, "p", 0, -1, 1.0)._asdict()]),
            "count from 0",
        ),
        (lambda: accuracy.task_accuracy([1], [1, 2], [0, 0], n_tasks=1), "one entry"),
        (lambda: accuracy.task_accuracy([1], [1], [3], n_tasks=2), "0..1"),
        (
            lambda: accuracy.to_matrix([], seed=0, probe="p", n_tasks=1),
            "no accuracy is recorded",
        ),
        (
            lambda: accuracy.to_matrix(
                [Record(0, "p", 0, 4, 1.0)], seed=0, probe="p", n_tasks=2
            ),
            "outside 2 tasks",
        ),
    ],
)
def test_bad_input_fails_in_words(call, says):
    with pytest.raises(ValueError, match=says):
        call()
