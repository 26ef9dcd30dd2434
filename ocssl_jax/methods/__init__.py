"""Self-supervised objectives, by name.

`METHODS[name](backbone, projector, **settings)` makes a `core.Method`; each keyword
argument is read from the field of that name in `config.method.<name>` or, failing that,
in `config.method`.
"""

from collections.abc import Callable

from ocssl_jax.core import Method
from ocssl_jax.methods.simclr import simclr

METHODS: dict[str, Callable[..., Method]] = {"simclr": simclr}
