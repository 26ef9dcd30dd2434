"""Learners that differ in numbers alone share one program, which takes these as arrays.

So a grid over the learning rate is compiled once instead of once a point; `crew` has
its points learn one after the other, or side by side.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from ocssl_jax import dotted, settings
from ocssl_jax.core import Array, Key, Stream, TrainState
from ocssl_jax.learning import Learning
from ocssl_jax.step import Metrics

Numbers = dict[str, Array | np.ndarray]  # dotted field -> [] float32

# Fields that no Python code asks about: a program may take them as arrays.
NUMBERS = (
    "optimizer.learning_rate",
    "optimizer.momentum",
    "optimizer.weight_decay",
    "method.simclr.temperature",
    "method.byol.momentum",
    "method.barlow_twins.off_diagonal",
    "method.barlow_twins.scale",
    "method.vicreg.invariance",
    "method.vicreg.variance",
    "method.vicreg.covariance",
    "method.clip.objectives.cross_entropy.temperature",
    "method.clip.objectives.info_nce.temperature",
    "method.clip.objectives.gcl.temperature",
    "method.clip.objectives.gdro.temperature",
    "strategy.align_weight",
    "strategy.ema_decay",
    "strategy.feature_decay",
    "strategy.osiris_r.temperature",
    "strategy.osiris_r.learning_rate_factor",
    "strategy.lump.alpha",
    "strategy.gem.margin",
    "strategy.icarl.distill_weight",
    "strategy.ewc.weight",
    "strategy.co2l.distill_weight",
    "strategy.der.auxiliary_weight",
    "strategy.foster.distill_weight",
    "strategy.gen.replay_weight",
    "strategy.gen_mir.replay_weight",
)


def family(config: ConfigDict) -> str:
    """One text for all configs that may share a program."""
    # Where data lie and how devices are used decides no result, but must be the same.
    return dotted.key(settings.as_json(config), free=NUMBERS)


def numbers_of(configs: Sequence[ConfigDict]) -> tuple[str, ...]:
    """The fields in which configs of one family differ."""
    values = {name: {dotted.get(c, name) for c in configs} for name in NUMBERS}
    return tuple(name for name, found in values.items() if len(found) > 1)


def with_numbers(config: ConfigDict, numbers: Mapping[str, Any]) -> ConfigDict:
    """The config with these values, which may be arrays, of fields of numbers."""
    other = config.copy_and_resolve_references()
    with other.unlocked(), other.ignore_type():
        for name, value in numbers.items():
            dotted.put(other, name, value)
    return other


class Program(NamedTuple):
    """The functions of a `Learning` that depend on numbers, which come first."""

    init: Callable[[Numbers, Key, Stream], TrainState]
    step: Callable[[Numbers, TrainState, Stream], tuple[TrainState, Metrics]]
    passing: Callable[[Numbers, TrainState, Stream], tuple[TrainState, Metrics]]


def program_of(
    config: ConfigDict, learning_of: Callable[[ConfigDict], Learning]
) -> Program:
    """The program of the family of `config`: learners are built while it is traced."""

    def of(numbers: Numbers) -> Learning:
        return learning_of(with_numbers(config, numbers))

    return Program(
        init=lambda numbers, key, stream: of(numbers).init(key, stream),
        step=lambda numbers, state, stream: of(numbers).step(state, stream),
        passing=lambda numbers, state, stream: of(numbers).passing(state, stream),
    )
