"""What a frozen encoder is worth: classifiers on its features, by name.

A probe is made by a factory, `PROBES[name](**settings)`, which returns
`fit(key, train_x, train_y, val_x, val_y) -> predict(x) -> labels`.
"""

from collections.abc import Callable

from ocssl_jax.probes.knn import knn
from ocssl_jax.probes.labels import subset
from ocssl_jax.probes.linear import linear
from ocssl_jax.probes.linear_sgd import linear_sgd
from ocssl_jax.probes.protocol import Fit, Predict
from ocssl_jax.probes.ridge import ridge

PROBES: dict[str, Callable[..., Fit]] = {
    "linear": linear,
    "linear_sgd": linear_sgd,
    "ridge": ridge,
    "knn": knn,
}

__all__ = ["PROBES", "Fit", "Predict", "knn", "linear", "ridge", "subset"]
