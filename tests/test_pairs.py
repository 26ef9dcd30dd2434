"""Combinations of method and strategy that cannot be are told before anything runs."""

import functools
import inspect

import pytest
from tiny import method_of, tiny_config, tiny_learning

from ocssl_jax import build
from ocssl_jax.errors import UsageError
from ocssl_jax.methods import METHODS
from ocssl_jax.methods.simclr import simclr
from ocssl_jax.strategies import STRATEGIES

ALIGNING = [
    name
    for name, factory in STRATEGIES.items()
    if "align_criterion" in inspect.signature(factory).parameters
]
WORDS = r"^config\.strategy\.align_criterion must be one of cosine, mse, got 'ssl'"


@pytest.fixture(autouse=True)
def mute(monkeypatch):
    """SimCLR without a distance, as the method `mute`."""
    factory = functools.wraps(simclr)(
        lambda *args, **kw: simclr(*args, **kw)._replace(distill=None)
    )
    monkeypatch.setitem(METHODS, "mute", factory)


def learning(strategy, method, criterion="ssl"):
    return tiny_learning(
        strategy__name=strategy,
        strategy__align_criterion=criterion,
        method__name=method,
        method__mute={"temperature": 0.5},
    )


def test_the_strategies_that_align_are_known():
    assert {"cla_r", "cla_e", "cla_b", "cassle", "cassle_r", "climb"} <= set(ALIGNING)


@pytest.mark.parametrize("strategy", ALIGNING)
def test_ssl_alignment_needs_a_method_that_is_a_distance(strategy):
    with pytest.raises(UsageError, match=WORDS) as told:
        learning(strategy, "mute")
    assert "method mute" in str(told.value) and "\n" not in str(told.value)
    learning(strategy, "mute", criterion="mse")
    learning(strategy, "simclr")


@pytest.mark.parametrize("strategy", ["none", "er", "lump"])
def test_a_criterion_that_nobody_uses_forbids_nothing(strategy):
    learning(strategy, "mute")


def test_a_baselines_combination_is_told_before_the_run_starts(tmp_path):
    config = tiny_config(
        stream__dataset="digits",
        stream__data_dir=str(tmp_path),
        stream__tasks=5,
        augment__name="glyphs",
        probe__names=(),
        strategy__name="er",
        strategy__align_criterion="ssl",
        method__name="mute",
        method__mute={"temperature": 0.5},
        baselines=("none", "random", "cla_r"),
    )
    with pytest.raises(UsageError, match=WORDS):
        build.build(config)


@pytest.mark.parametrize("strategy", ["er", "lump", "cla_r", "cla_e", "cassle_r"])
def test_a_memory_that_is_not_plain_is_answered_with_those_that_are(strategy):
    field = f"strategy__{strategy}__memory"
    for name in ("centroids", "ring"):
        words = rf"config\.strategy\.{strategy}: memory must be one of .*fifo.*{name}"
        with pytest.raises(UsageError, match=words):
            tiny_learning(strategy__name=strategy, **{field: name})


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_replay_batch_must_fit_into_the_memory_it_is_drawn_from(strategy):
    fields = {"strategy__name": strategy, "strategy__replay_size": 24}
    fields |= {"method__name": method_of(strategy), "strategy__er_mir__candidates": 24}
    fields |= {"strategy__ae_mir__candidates": 24}
    if "replay_size" not in inspect.signature(STRATEGIES[strategy]).parameters:
        tiny_learning(**fields)
        return
    with pytest.raises(UsageError, match=r"below strategy\.memory_size 24, got 24"):
        tiny_learning(**fields)


@pytest.mark.parametrize(
    ("fields", "temperature"),
    [
        ({"strategy__name": "er"}, 0.5),
        ({"strategy__name": "osiris_r"}, 0.1),
        (
            {"strategy__name": "osiris_r", "strategy__osiris_r__ssl_temperature": 0.2},
            0.2,
        ),
        (
            {"strategy__name": "osiris_r", "strategy__osiris_r__ssl_temperature": 0.0},
            0.5,
        ),
    ],
)
def test_osiris_rs_temperature_is_the_methods_too(monkeypatch, fields, temperature):
    seen = []

    def spy(*args, **kw):
        seen.append(kw["temperature"])
        return simclr(*args, **kw)

    monkeypatch.setitem(METHODS, "simclr", functools.wraps(simclr)(spy))
    tiny_learning(**fields)
    assert seen == [temperature]
    tiny_learning(strategy__name="osiris_r", method__name="byol")  # has none
