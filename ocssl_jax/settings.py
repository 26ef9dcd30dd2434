"""From the config a user gave to the one a run uses: overlay, checks, JSON.

Fields have types already (ml_collections checks them); here are the ranges and names,
each wrong one answered by one line that says what is allowed.
"""

import json
import math
import os
import runpy
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ocssl_jax.errors import UsageError, one_of

# Fields that do not decide a run's results: they may change when it resumes.
FREE = ("checkpoint", "log", "chunk", "mesh", "stream.data_dir", "probe.data_dir")

DEFAULTS = Path(__file__).resolve().parents[1] / "configs" / "default.py"
PRETRAINED = "backbone.pretrained"
OLDEST = {"seeds", "stream", "strategy"}  # what every version's config has

Check = tuple[Callable[[Any], bool], str]
POSITIVE: Check = (lambda x: x >= 1, "at least 1")
COUNT: Check = (lambda x: x >= 0, "0 or more")
ABOVE_0: Check = (lambda x: x > 0, "above 0")
SEED: Check = (lambda x: 0 <= x < 2**32, "in [0, 2^32)")
SHARE: Check = (lambda x: 0 <= x < 1, "in [0, 1)")

CHECKS: dict[str, Check] = {
    "passes": POSITIVE,
    "chunk": COUNT,
    "mesh.seed": COUNT,
    "mesh.data": COUNT,
    "stream.image_size": COUNT,
    "stream.tasks": POSITIVE,
    "stream.classes": COUNT,
    "stream.blur": POSITIVE,
    "stream.epochs": POSITIVE,
    "stream.val_ratio": SHARE,
    "stream.batch_size": POSITIVE,
    "stream.limit": COUNT,
    "backbone.width": COUNT,
    "backbone.depth": COUNT,
    "method.projection": POSITIVE,
    "method.mae.mask_ratio": (lambda x: 0 < x < 1, "in (0, 1)"),
    "method.mae.decoder_layers": POSITIVE,
    "method.mae.decoder_heads": POSITIVE,
    "method.simsiam.prediction_hidden": POSITIVE,
    "method.byol.prediction_hidden": POSITIVE,
    "method.byol.momentum": (lambda x: 0 <= x <= 1, "in [0, 1]"),
    "method.barlow_twins.off_diagonal": COUNT,
    "method.barlow_twins.scale": ABOVE_0,
    "method.vicreg.invariance": COUNT,
    "method.vicreg.variance": COUNT,
    "method.vicreg.covariance": COUNT,
    "strategy.replay_size": POSITIVE,
    "strategy.memory_size": POSITIVE,
    "strategy.feature_decay": (lambda x: 0 <= x <= 1, "in [0, 1]"),
    "strategy.ema_decay": (lambda x: 0 <= x <= 1, "in [0, 1]"),
    "strategy.align_hidden": POSITIVE,
    "strategy.osiris_r.temperature": ABOVE_0,
    "strategy.osiris_r.ssl_temperature": COUNT,
    "strategy.osiris_r.learning_rate_factor": ABOVE_0,
    "strategy.scale.projection": POSITIVE,
    "strategy.scale.temperature": ABOVE_0,
    "strategy.scale.past_temperature": ABOVE_0,
    "strategy.scale.positive_ratio": SHARE,
    "strategy.scale.distill_power": COUNT,
    "strategy.lump.alpha": ABOVE_0,
    "optimizer.learning_rate": ABOVE_0,
    "optimizer.momentum": SHARE,
    "optimizer.weight_decay": COUNT,
    "optimizer.trust_coefficient": ABOVE_0,
    "optimizer.divisor": ABOVE_0,
    "probe.every": POSITIVE,
    "probe.labels_per_class": COUNT,
    "probe.batch_size": (lambda x: 1 <= x <= 65536, "in [1, 65536]"),
    "probe.seed": SEED,
    "probe.val_ratio": SHARE,
    "stream.seed": SEED,
    "checkpoint.every": POSITIVE,
    "checkpoint.keep": POSITIVE,
    "log.every": POSITIVE,
}


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
    one_of("fidelity", config.fidelity, ("paper", "reference"))
    if config.fidelity == "reference":
        config.update(config.reference)
        for name, value in overrides.items():
            put(config, name, value)
    for name, value in flat(config.to_dict()).items():
        if isinstance(value, tuple) and any(isinstance(part, str) for part in value):
            put(config, name, split_names(value))
    put(config, PRETRAINED, absolute(get(config, PRETRAINED)))
    validate(config)
    return config


def absolute(path: str) -> str:
    """One name of a file for all relative ones; '' stays: no file is meant."""
    return os.path.abspath(os.path.expanduser(path)) if path else path


def split_names(names: tuple[Any, ...]) -> tuple[str, ...]:
    """('a,b', 'c') -> ('a', 'b', 'c'): the command line hands `a,b` on as one word."""
    parts = [part.strip() for name in names for part in str(name).split(",")]
    return tuple(part for part in parts if part)


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


def validate(config: ConfigDict) -> None:
    """Check ranges; names are checked where their registries are at hand.

    Raises:
      UsageError: naming the field, its value and what is allowed.
    """
    for name, value in flat(config.to_dict()).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"config.{name} must be a finite number, got {value!r}")
    for name, (holds, words) in CHECKS.items():
        value = get(config, name)
        if not holds(value):
            raise UsageError(f"config.{name} must be {words}, got {value!r}")
    seeds = config.seeds
    if not seeds or not all(type(s) is int and 0 <= s < 2**31 for s in seeds):
        raise UsageError(
            f"config.seeds must be integers in [0, 2^31) such as 0,1,2, got {seeds!r}"
        )
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"config.seeds must differ from each other, got {seeds!r}")
    for name in config.baselines:
        if name == config.strategy.name or list(config.baselines).count(name) > 1:
            raise UsageError(
                f"config.baselines must be other strategies than strategy.name, each "
                f"once, got {tuple(config.baselines)!r}"
            )
    validate_probe(config.probe)
    if config.backbone.pretrained and "random" in config.baselines:
        raise UsageError(
            "config.baselines: 'random' probes the first weights, and with "
            "backbone.pretrained these are not random; leave it out"
        )
    one_of("precision", config.precision, ("float32", "bfloat16"))
    one_of("augment.per", config.augment.per, ("sample", "batch"))


def validate_probe(probe: ConfigDict) -> None:
    """Check what the probes are asked for.

    Raises:
      UsageError: naming the field, its value and what is allowed.
    """
    for name in ("names", "scopes", "ratios"):
        values = tuple(probe[name])
        if len(set(values)) < len(values) or (name != "names" and not values):
            raise UsageError(
                f"config.probe.{name} must be "
                f"{'' if name == 'names' else 'at least one, '}each once, got "
                f"{values!r}"
            )
    ratios = tuple(probe.ratios)
    if not all(type(r) in (int, float) and 0 < r <= 1 for r in ratios):
        raise UsageError(
            f"config.probe.ratios must be shares in (0, 1] such as 0.1,1, got "
            f"{ratios!r}"
        )
    if probe.labels_per_class and ratios != (1,):
        raise UsageError(
            f"config.probe.ratios must be 1 with probe.labels_per_class "
            f"{probe.labels_per_class}, got {ratios!r}: give the label budget once"
        )


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
    if isinstance(path := flat(whole).get(PRETRAINED), str):
        put(whole, PRETRAINED, absolute(path))
    return whole


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
