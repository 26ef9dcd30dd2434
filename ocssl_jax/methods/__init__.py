"""Self-supervised objectives, by name.

`METHODS[name](backbone, **settings)` makes a `core.Method` with the heads it needs.
Each keyword argument is read from the field of that name in `config.method.<name>` or,
failing that, in `config.method`; `dtype` is that of the computation.
"""

from collections.abc import Callable

from ocssl_jax.core import Method
from ocssl_jax.methods.mae import mae
from ocssl_jax.methods.simclr import simclr

METHODS: dict[str, Callable[..., Method]] = {"mae": mae, "simclr": simclr}
