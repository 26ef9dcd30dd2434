"""Ridge probe: one-versus-rest regression to +-1 targets on standardised features."""

from typing import Any

from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ocssl_jax.probes.protocol import Fit, Predict, checked


def ridge(*, alpha: float) -> Fit:
    """Make a ridge probe; it has a closed form, hence uses neither key nor validation.

    Args:
      alpha: weight of the squared norm of the coefficients; the suite uses 1.

    Returns:
      `fit(key, train_x [n f], train_y [n], val_x, val_y) -> predict(x) -> labels`.

    Raises:
      ValueError: if `alpha` is negative; by `fit`, if the training data is unusable or
        holds a single class.
    """
    if alpha < 0:
        raise ValueError(f"alpha must be 0 or positive, got {alpha}")

    def fit(
        key: Any, train_x: Any, train_y: Any, val_x: Any = None, val_y: Any = None
    ) -> Predict:
        del key, val_x, val_y
        x, y = checked(train_x, train_y, name="training")
        if (y == y[0]).all():
            raise ValueError("the ridge probe needs at least two classes, got one")
        model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=alpha))
        return model.fit(x, y).predict

    return fit
