"""Objectives by name: self-supervised ones, and classification.

`METHODS[name](backbone, **settings)` makes a `core.Method` with the heads it needs.
Each keyword argument is read from the field of that name in `config.method.<name>` or,
failing that, in `config.method`; `dtype` is that of the computation.
"""

from collections.abc import Callable

from ocssl_jax.core import Method
from ocssl_jax.methods.barlow_twins import barlow_twins
from ocssl_jax.methods.byol import byol
from ocssl_jax.methods.clip import clip
from ocssl_jax.methods.mae import mae
from ocssl_jax.methods.simclr import simclr
from ocssl_jax.methods.simsiam import simsiam
from ocssl_jax.methods.supervised import supervised
from ocssl_jax.methods.vicreg import vicreg

METHODS: dict[str, Callable[..., Method]] = {
    "simclr": simclr,
    "simsiam": simsiam,
    "byol": byol,
    "barlow_twins": barlow_twins,
    "vicreg": vicreg,
    "mae": mae,
    "supervised": supervised,
    "clip": clip,
}
