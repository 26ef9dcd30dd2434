"""k-nearest-neighbour probe: uniform votes, Euclidean, on standardised features."""

from typing import Any

from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ocssl_jax.probes.protocol import Fit, Predict, checked


def knn(*, k: int) -> Fit:
    """Make a k-NN probe; it has nothing to train, hence uses no key and no validation.

    Args:
      k: neighbours that vote; the suite uses 50. With n < k training samples all n vote
        (which is then the majority class: give a small data set a small k).

    Returns:
      `fit(key, train_x [n f], train_y [n], val_x, val_y) -> predict(x) -> labels`.

    Raises:
      ValueError: if `k` is below 1; by `fit`, if the training data is unusable.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")

    def fit(
        key: Any, train_x: Any, train_y: Any, val_x: Any = None, val_y: Any = None
    ) -> Predict:
        del key, val_x, val_y
        x, y = checked(train_x, train_y, name="training")
        neighbours = KNeighborsClassifier(n_neighbors=min(k, len(y)))
        return make_pipeline(StandardScaler(), neighbours).fit(x, y).predict

    return fit
