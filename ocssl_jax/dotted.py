"""Fields of a config by their dotted names: read, set, compared."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from ocssl_jax.errors import UsageError

# Fields that do not decide a run's results: they may change when it resumes.
FREE = (
    *("checkpoint", "log", "chunk", "mesh", "debug", "published"),
    *("stream.data_dir", "probe.data_dir", "stream.look", "stream.quiet"),
)


def get(config: ConfigDict, name: str) -> Any:
    """The field with the dotted `name`."""
    try:
        for part in name.split("."):
            config = config[part]
    except (KeyError, TypeError) as error:
        raise UsageError(f"the config lacks the field {name}") from error
    return config


def put(config: Any, name: str, value: Any) -> None:
    """Set the field with the dotted `name`."""
    *groups, last = name.split(".")
    for part in groups:
        config = config[part]
    config[last] = value


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted field -> value."""
    fields: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            fields |= flat(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields


def decisive(config: Mapping[str, Any], free: Iterable[str] = FREE) -> dict[str, Any]:
    """Dotted field -> value of what decides results: everything outside `free`."""
    free = tuple(free)
    return {
        name: value
        for name, value in flat(config).items()
        if not any(name == f or name.startswith(f + ".") for f in free)
    }


def key(config: Mapping[str, Any], free: Iterable[str] = FREE) -> str:
    """One text for all configs, as JSON holds them, that decide the same results."""
    return json.dumps(decisive(config, free), sort_keys=True)


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], free: Iterable[str] = FREE
) -> list[str]:
    """Lines `field: old -> new` for what decides results and is not the same."""
    before, after = decisive(old, free), decisive(new, free)
    return [
        f"{name}: {before.get(name)!r} -> {after.get(name)!r}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
