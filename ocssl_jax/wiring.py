"""From a config's fields to the keyword arguments of a factory.

The factories of methods, strategies and probes take plain keyword arguments; `wired`
reads them from the config's fields of the same names, so that adding one needs no line
in the builder, and no factory knows of configs.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from ocssl_jax.errors import UsageError


def plain(value: Any) -> Any:
    """A ConfigDict as nested dicts, so that no factory knows of configs."""
    return value.to_dict() if isinstance(value, ConfigDict) else value


def wired(
    factory: Callable[..., Any], what: str, *sources: Mapping[str, Any], **given: Any
) -> dict[str, Any]:
    """The factory's keyword arguments, each from the first source that has its field.

    Args:
      factory: whose keyword-only parameters are read.
      what: where its fields belong, for the error.
      *sources: groups of the config, the most specific first.
      **given: arguments that no field holds.

    Raises:
      UsageError: if an argument is found nowhere.
    """
    found = {}
    for name, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        for source in (given, *sources):
            if name in source:
                found[name] = plain(source[name])
                break
        else:
            raise UsageError(f"config.{what} lacks the field {name!r}")
    return found


def made(factory: Callable[..., Any], what: str, *args: Any, **fields: Any) -> Any:
    """`factory(*args, **fields)`, its complaints put as those of the config's user.

    Raises:
      UsageError: "config.<what>: <the factory's words>".
    """
    try:
        return factory(*args, **fields)
    except ValueError as error:
        raise UsageError(f"config.{what}: {error}") from error


def group(config: ConfigDict, name: str) -> Mapping[str, Any]:
    """The sub-group `name`, empty where there is none."""
    return config.get(name, {})
