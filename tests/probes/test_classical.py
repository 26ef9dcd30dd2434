"""Ridge and k-NN probes against scikit-learn called directly."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from ocssl_jax.probes import knn, ridge


def data(seed, n):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, n) * 3 + 1
    scale = np.array([1.0, 100.0, 0.01, 1.0, 1.0])  # makes standardising matter
    x = (rng.normal(size=(n, 5)) + y[:, None] * np.eye(5)[2] / 4) * scale
    return x.astype(np.float32), y


@pytest.mark.parametrize(
    ("probe", "classifier"),
    [
        (ridge(alpha=1.0), RidgeClassifier(alpha=1.0)),
        (ridge(alpha=300.0), RidgeClassifier(alpha=300.0)),
        (knn(k=1), KNeighborsClassifier(1)),
        (knn(k=50), KNeighborsClassifier(50, metric="euclidean", weights="uniform")),
    ],
)
def test_equals_scikit_learn_on_features_scaled_by_the_training_set(probe, classifier):
    x, y = data(0, 80)
    test_x, _ = data(1, 200)
    test_x = test_x + 0.5 * x.std(axis=0)  # other statistics than the training set's
    scaler = StandardScaler().fit(x)
    expected = classifier.fit(scaler.transform(x), y).predict(scaler.transform(test_x))
    np.testing.assert_array_equal(probe(None, x, y, None, None)(test_x), expected)


def test_too_many_neighbours_means_all_of_them():
    x, y = data(0, 20)
    all_vote = knn(k=20)(None, x, y)(x)
    np.testing.assert_array_equal(knn(k=50)(None, x, y)(x), all_vote)
    assert set(all_vote) == {
        np.unique(y)[np.argmax(np.unique(y, return_counts=True)[1])]
    }


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: knn(k=0), "k must be at least 1"),
        (lambda: ridge(alpha=-1.0), "alpha must be"),
        (
            lambda: ridge(alpha=1.0)(None, np.ones((3, 2)), np.ones(3, int)),
            "two classes",
        ),
        (
            lambda: knn(k=1)(None, np.ones((0, 2)), np.ones(0, int)),
            "at least one sample",
        ),
    ],
)
def test_bad_input_fails_in_words(call, says):
    with pytest.raises(ValueError, match=says):
        call()
