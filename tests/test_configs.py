"""Every config file builds, and its step has shapes: seconds each, nothing compiled."""

import importlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from configs import default
from ocssl_jax import build, settings
from ocssl_jax.core import Stream
from ocssl_jax.data import DATASETS
from ocssl_jax.errors import UsageError
from ocssl_jax.strategies import STRATEGIES

ROOT = Path(__file__).parents[1]
SHAPES = {"digits": (8, 8, 1), "cifar100": (32, 32, 3)}
VARIANTS = {
    "climb_cifar100": ("20", "50", "100"),
    "small_cifar100": tuple(STRATEGIES),
}
CASES = [
    (name, variant)
    for name in sorted(p.stem for p in (ROOT / "configs").glob("*.py"))
    for variant in VARIANTS.get(name, (None,))
]


def load(name, variant=None):
    get_config = importlib.import_module(f"configs.{name}").get_config
    return get_config(variant) if variant else get_config()


@pytest.mark.parametrize("fidelity", ["paper", "reference"])
@pytest.mark.parametrize(("name", "variant"), CASES)
def test_config_builds_and_its_step_has_shapes(name, variant, fidelity):
    config = load(name, variant)
    config.fidelity = fidelity
    config = settings.resolve(config, {"fidelity": fidelity})
    build.check_names(config)
    shape = SHAPES[config.stream.dataset]
    spec = DATASETS[config.stream.dataset]
    learning = build.make_learning(config, shape=shape, mean=spec.mean, std=spec.std)
    b = config.stream.batch_size
    struct = jax.ShapeDtypeStruct
    arrival = Stream(
        struct((b, *shape), jnp.uint8),
        struct((b,), jnp.int32),
        struct((b,), bool),
        struct((), bool),
    )
    state = jax.eval_shape(learning.init, jax.random.key(0), arrival)
    after, metrics = jax.eval_shape(learning.step, state, arrival)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert jax.tree.leaves(after) == jax.tree.leaves(state)
    assert metrics["loss"].shape == ()


def test_a_config_can_be_written_and_compared():
    config = settings.as_json(settings.resolve(default.get_config(), {}))
    again = json.loads(json.dumps(config))
    assert settings.differences(config, again) == []
    again["passes"] = 7
    again["log"]["every"] = 99  # does not decide results
    assert settings.differences(config, again) == ["passes: 3 -> 7"]


def test_the_reference_overlay_yields_to_the_command_line():
    config = default.get_config()
    config.fidelity = "reference"
    assert settings.resolve(config, {}).augment.per == "batch"
    chosen = settings.resolve(config, {"augment.per": "sample"})
    assert chosen.augment.per == "sample"
    assert chosen.strategy.climb.train_head is False


def test_names_may_be_given_as_one_word():
    config = default.get_config()
    config.probe.names = ("ridge,knn",)
    assert settings.resolve(config, {}).probe.names == ("ridge", "knn")
    config.probe.names = ()
    assert settings.resolve(config, {}).probe.names == ()


def test_every_overlaid_field_exists_and_differs_from_the_default():
    config = default.get_config()
    quirks = settings.flat(config.reference.to_dict())
    assert len(quirks) == 11
    for name, value in quirks.items():
        assert settings.get(config, name) != value, name


@pytest.mark.parametrize("name", settings.CHECKS)
def test_a_number_out_of_range_is_named(name):
    config = default.get_config()
    settings.put(config, name, type(settings.get(config, name))(-1))
    with pytest.raises(UsageError, match=f"config.{name} must be .*got -1"):
        settings.resolve(config, {})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("strategy.replay_size", 2500, "below strategy.memory_size 2500"),
        ("baselines", ("climb",), "other strategies"),
        ("baselines", ("none", "none"), "each once"),
        ("optimizer.learning_rate", float("inf"), "finite number"),
        ("strategy.align_weight", float("nan"), "finite number"),
        ("seeds", (), "integers in"),
        ("seeds", (1, 1), "must differ"),
        ("seeds", (-1,), "integers in"),
        ("seeds", ("a",), "integers in"),
        ("precision", "float16", "one of float32, bfloat16"),
        ("fidelity", "papers", "one of paper, reference"),
    ],
)
def test_other_wrong_values_are_named(name, value, words):
    config = default.get_config()
    settings.put(config, name, value)
    with pytest.raises(UsageError, match=words):
        settings.resolve(config, {})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("stream.dataset", "digits, cifar10"),
        ("backbone.name", "resnet18"),
        ("method.name", "simclr"),
        ("strategy.name", ", ".join(STRATEGIES)),
        ("optimizer.name", "sgd, adam"),
        ("optimizer.schedule", "constant, local_cycle"),
    ],
)
def test_an_unknown_name_is_answered_with_the_known_ones(name, words):
    config = default.get_config()
    settings.put(config, name, "nonesuch")
    with pytest.raises(UsageError, match=f"config.{name} must be one of .*{words}"):
        build.check_names(config)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("strategy.memory_size", 100, "config.strategy.climb: .*1900 images"),
        ("strategy.climb.ema_parts", ("head",), "ema parts"),
        ("strategy.align_criterion", "l1", "one of cosine, mse, ssl, got 'l1'"),
        ("strategy.align_on", "pixels", "one of projection, feature, got 'pixels'"),
        ("augment.name", "mirror", "simclr, common"),
        ("optimizer.schedule", "local_cycle", "rise . passes"),
    ],
)
def test_impossible_settings_are_told_before_anything_runs(name, value, words):
    config = default.get_config()
    config.backbone.name = "mlp"
    config.passes = 2
    settings.put(config, name, value)
    with pytest.raises(UsageError, match=words):
        build.make_learning(config, shape=(32, 32, 3), mean=(0,) * 3, std=(1,) * 3)
