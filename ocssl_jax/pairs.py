"""Which strategy works with which method, told before anything runs."""

from ml_collections import ConfigDict

from ocssl_jax.core import Method
from ocssl_jax.errors import UsageError

# Strategies whose own losses contrast the two views of an image.
TWO_VIEWS = frozenset({"osiris_r", "scale"})


def check_pair(config: ConfigDict, method: Method) -> None:
    """The config's strategy and baselines must be able to work with its method.

    Raises:
      UsageError: naming both and what is needed.
    """
    for strategy in (config.strategy.name, *config.baselines):
        if strategy in TWO_VIEWS and method.views != 2:
            raise UsageError(
                f"strategy {strategy!r} needs a method of 2 views of an image, and "
                f"config.method.name {config.method.name!r} makes {method.views}"
            )
