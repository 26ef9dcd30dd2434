"""From the config a user gave to the one a run uses: overlay, checks, JSON.

A wrong field is answered by one line that says what is allowed. ml_collections checks
the kinds of what flags set; files, whether Python or JSON, may hold anything.
"""

import json
import os
import runpy
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ocssl_jax.dotted import differences, flat, get, put
from ocssl_jax.errors import UsageError, one_of
from ocssl_jax.ranges import validate

DEFAULTS = Path(__file__).resolve().parents[1] / "configs" / "default.py"
PRETRAINED = ("backbone.pretrained", "method.pretrained", "method.clip.weights")
KINDS: dict[type, tuple[tuple[type, ...], str]] = {  # of a default as JSON holds it
    bool: ((bool,), "True or False"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "a text"),
    list: ((tuple, list), "a tuple"),
}
OLDEST = {"seeds", "stream", "strategy"}  # what every version's config has


def resolve(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
    """The config with the reference overlay, where asked for, and every field checked.

    Args:
      config: from a file of `configs/`, with the command line's values in it.
      overrides: dotted field -> value as given on the command line; they win over the
        overlay.

    Raises:
      UsageError: naming the first field that is out of range.
    """
    config = config.copy_and_resolve_references()
    check_kinds(config)
    one_of("fidelity", config.fidelity, ("paper", "reference"))
    if config.fidelity == "reference":
        config.update(config.reference)
        for name, value in overrides.items():
            put(config, name, value)
    for name, value in flat(config.to_dict()).items():
        if isinstance(value, tuple) and any(isinstance(part, str) for part in value):
            put(config, name, split_names(value))
    for name in PRETRAINED:
        put(config, name, absolute(get(config, name)))
    validate(config)
    return config


def check_kinds(config: ConfigDict) -> None:
    """Refuse a config that lacks a field, or has one of another kind than its default.

    Raises:
      UsageError: naming the field.
    """
    for name, default in flat(json.loads(_defaults())).items():
        if name.startswith("reference."):
            continue  # a file may leave the overlay out
        value, (kinds, words) = get(config, name), KINDS[type(default)]
        if type(value) not in kinds:  # exactly: True is no number here
            shown = "a group" if isinstance(value, ConfigDict) else repr(value)
            raise UsageError(f"config.{name} must be {words}, got {shown}")
    if not all(type(place) is int for place in config.stream.order):
        raise UsageError(
            f"config.stream.order must be whole numbers, got {config.stream.order!r}"
        )


def absolute(path: str) -> str:
    """One name of a file for all relative ones; '' stays: no file is meant."""
    return os.path.abspath(os.path.expanduser(path)) if path else path


def split_names(names: tuple[Any, ...]) -> tuple[str, ...]:
    """('a,b', 'c') -> ('a', 'b', 'c'): the command line hands `a,b` on as one word."""
    parts = [part.strip() for name in names for part in str(name).split(",")]
    return tuple(part for part in parts if part)


def as_json(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON holds it: tuples have become lists."""
    return json.loads(config.to_json_best_effort())


def from_json(fields: Mapping[str, Any]) -> ConfigDict:
    """The resolved config that `as_json` wrote, lists turned into tuples again.

    No field of a config holds a list: whatever is one in JSON was a tuple.

    Raises:
      UsageError: if a field is missing or out of range.
    """
    try:
        config = ConfigDict({name: _restored(value) for name, value in fields.items()})
        check_kinds(config)
        validate(config)
    except UsageError:
        raise
    except Exception as error:  # whatever a missing or mistyped field provokes
        raise UsageError(f"the config cannot be read ({error})") from error
    config.lock()
    return config


def filled(fields: Any, like: Mapping[str, Any] | None = None) -> Any:
    """A config as JSON holds it, with the fields that its version did not have yet.

    They get their defaults, which do what was done before there was the field.

    Args:
      fields: the config; what is none is returned as it is.
      like: a config of today, whose values stand in for missing fields that cannot
        matter to it: of strategies, methods and probes that it does not use.
    """
    if not isinstance(fields, Mapping) or not fields.keys() >= OLDEST:
        return fields
    known = json.loads(_defaults())
    present = flat(known)
    for name, value in flat(like).items() if like else ():
        if name in present and _idle(name, like or {}):
            put(known, name, value)
    whole = _under(fields, known)
    for name in PRETRAINED:
        if isinstance(path := flat(whole).get(name), str):
            put(whole, name, absolute(path))
    return whole


def changed(old: Any, new: Mapping[str, Any]) -> str:
    """Which field decides other results in two configs as JSON holds them, if one does.

    Args:
      old: may be of an older version, or damaged.
      new: of today.

    Returns:
      "field: old -> new and 2 more"; '' if both give the same results.
    """
    before = filled(old, like=new)
    found = differences(before if isinstance(before, Mapping) else {}, new)
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{found[0]}{more}" if found else ""


@cache
def _defaults() -> str:
    if not DEFAULTS.exists():  # installed without the checkout
        return "{}"
    return json.dumps(as_json(runpy.run_path(str(DEFAULTS))["get_config"]()))


def _idle(name: str, config: Mapping[str, Any]) -> bool:
    """Whether a field has no say in what this config gives."""
    top, sub, *rest = [*name.split("."), ""]
    used = {
        "strategy": [config["strategy"]["name"]],
        "method": [config["method"]["name"]],
        "probe": config["probe"]["names"],
    }
    return top == "reference" or (any(rest) and sub not in used.get(top, [sub]))


def _under(fields: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The fields, and those of `known` that are not among them, group by group."""
    both = {
        name: _under(fields[name], value)
        for name, value in known.items()
        if isinstance(value, Mapping) and isinstance(fields.get(name), Mapping)
    }
    return {**known, **fields, **both}


def _restored(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _restored(part) for name, part in value.items()}
    if isinstance(value, list):
        return tuple(map(_restored, value))
    return value
