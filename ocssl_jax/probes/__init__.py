"""What a frozen encoder is worth: classifiers on its features, by name.

A probe is made by a factory, `PROBES[name](**settings)`, which returns
`fit(key, train_x, train_y, val_x, val_y) -> predict(x) -> labels`. Those of `OFFLINE`
look at images instead, for as many epochs as training may take: no run waits for them.
"""

from collections.abc import Callable

from ocssl_jax.probes.knn import knn
from ocssl_jax.probes.labels import subset
from ocssl_jax.probes.linear import linear
from ocssl_jax.probes.linear_augmented import linear_augmented
from ocssl_jax.probes.linear_sgd import linear_sgd
from ocssl_jax.probes.protocol import Fit, Looking, Predict, Swept
from ocssl_jax.probes.ridge import ridge

PROBES: dict[str, Callable[..., Fit]] = {
    "linear": linear,
    "linear_sgd": linear_sgd,
    "ridge": ridge,
    "knn": knn,
}
HELD_OUT = ("linear",)  # choose an epoch by validation images: cannot do without
OFFLINE: dict[str, Callable[..., Looking]] = {"linear_augmented": linear_augmented}

__all__ = [
    "HELD_OUT",
    "OFFLINE",
    "PROBES",
    "Fit",
    "Looking",
    "Predict",
    "Swept",
    "knn",
    "linear",
    "ridge",
    "subset",
]
