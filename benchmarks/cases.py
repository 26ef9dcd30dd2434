"""The learners that are measured: configs of the project at named sizes."""

from typing import Any

from ml_collections import ConfigDict

from configs import climb_cifar100, small_cifar100
from ocssl_jax import dotted, settings

SMALL_MEMORY = {"stm": 12, "ltm": 8, "images_per_centroid": 6, "window": 50}

# name -> (config, fields changed): network and rows of a pass, stream and replay
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "convnet-20": (small_cifar100, {"strategy.replay_size": 10}),
    "slim_resnet18-20": (
        climb_cifar100,
        {"backbone.name": "slim_resnet18", "strategy.replay_size": 10},
    ),
    "resnet18-138": (climb_cifar100, {}),
}
SMALL: dict[str, Any] = {  # whatever the case: enough to see that all of it runs
    "backbone.width": 4,
    "method.projection": 32,
    "strategy.align_hidden": 16,
    "strategy.memory_size": 75,
}


def fields_of(case: str, *, small: bool, **changed: Any) -> dict[str, Any]:
    """The resolved config of a case, as JSON holds it and processes exchange it.

    Args:
      case: a name of `CASES`.
      small: whether its network and memories are cut to next to nothing.
      **changed: further fields, with __ for the dots.
    """
    source, fields = CASES[case]
    config = source.get_config()
    fields = fields | (SMALL if small else {})
    fields |= {name.replace("__", "."): value for name, value in changed.items()}
    for name, value in fields.items():
        dotted.put(config, name, value)
    if small:
        config.strategy.replay_size = min(config.strategy.replay_size, 10)
        config.strategy.climb.centroid_memory.update(SMALL_MEMORY)
    return settings.as_json(settings.resolve(config, {}))


def config_of(fields: dict[str, Any]) -> ConfigDict:
    """The config that `fields_of` described."""
    return settings.from_json(fields)
