"""What an evaluation is asked for: the run's config with other fields, and its name."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ocssl_jax import dotted, ranges
from ocssl_jax.errors import UsageError
from ocssl_jax.probes import OFFLINE

DEFERRED = ("linear",)  # probes of a run that had none


def asked_for(config: ConfigDict, asked: Mapping[str, Any]) -> ConfigDict:
    """The run's config with what is asked for in its place.

    A label budget replaces the run's, whether that is a share or a number. A data set
    is one task, hence joint, and lies beside the stream's unless a folder is named.

    Raises:
      UsageError: if a field is out of range.
    """
    config.probe.names = config.probe.names or DEFERRED
    if "probe.ratios" in asked:
        config.probe.labels_per_class = 0
    if "probe.labels_per_class" in asked:
        config.probe.ratios = (1.0,)
    if "probe.dataset" in asked:
        config.probe.data_dir = ""
    if asked.get("probe.dataset"):
        config.probe.scopes = ("joint",)
    for name, value in asked.items():
        dotted.put(config, name, value)
    for name in OFFLINE:
        if name not in config.probe.names and any(f".{name}." in key for key in asked):
            raise UsageError(f"--epochs and --rates are of {name}: add --probe {name}")
    if not config.probe.names:
        raise UsageError("--probe needs at least one name, such as linear,ridge,knn")
    ranges.validate(config)
    return config


def name_of(probe: ConfigDict) -> str:
    """A folder name that tells which settings gave what lies in it.

    Whatever else decides a result is in the run's config, which never changes.
    """
    parts = ["+".join(probe.names)]
    if tuple(probe.scopes) != ("joint",):
        parts.append("+".join(probe.scopes))
    if tuple(probe.ratios) != (1,):
        parts.append("+".join(str(float(ratio)) for ratio in probe.ratios))
    if probe.labels_per_class:
        parts.append(f"{probe.labels_per_class}-labels")
    for own in (probe[name] for name in OFFLINE if name in probe.names):
        tried = "+".join(str(float(rate)) for rate in own.learning_rates)
        parts.append(f"{own.epochs}-epochs_rates-{tried}")
    if probe.dataset:
        parts.append(f"on-{probe.dataset}")
    if probe.dataset and probe.data_dir:  # two folders of pictures have one name
        path = Path(probe.data_dir).expanduser().absolute()
        parts[-1] += f"-{zlib.crc32(str(path).encode()):08x}"
    return "_".join(parts)
