"""What the compiler is asked for, and that it may not know it."""

import chex
import jax
import jax.numpy as jnp
import pytest
from marks import slow
from tiny import equal, method_of, strategy_of, stream, tiny_learning

from ocssl_jax import compiling
from ocssl_jax.backbones import BACKBONES
from ocssl_jax.methods import METHODS
from ocssl_jax.strategies import STRATEGIES


@pytest.fixture(autouse=True)
def asked_anew():
    def forget():
        compiling.options.cache_clear()
        compiling.brief_options.cache_clear()

    forget()
    yield
    forget()


def test_a_program_computes_the_same_and_keeps_jits_arguments():
    add = compiling.jit(lambda x, n: x + n, static_argnums=1)
    assert add(jnp.float32(2), 3) == 5


def test_an_option_that_the_compiler_lacks_is_left_out(monkeypatch):
    monkeypatch.setattr(compiling, "OLDER", {"xla_cpu_no_such_option": False})
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_cpu_no_such_option"):
        jax.jit(lambda: 0, compiler_options=compiling.OLDER)()
    assert compiling.options() is None
    assert compiling.jit(lambda x: x + 1)(1) == 2
    assert compiling.once(lambda x: x + 1)(1) == 2


def test_accelerators_are_asked_for_nothing(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiling.options() is compiling.brief_options() is None


@pytest.fixture
def optimised():
    """As users compile; these tests do with less."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


def draws(key):
    """First weights of several shapes, as networks draw them."""
    keys, he = jax.random.split(key, 3), jax.nn.initializers.he_normal()
    bound = lambda key: jax.random.uniform(key, (7,), minval=-0.3, maxval=0.3)
    orthogonal = jax.nn.initializers.orthogonal()(keys[2], (16, 16))
    return he(keys[0], (3, 3, 5, 33)), bound(keys[1]), orthogonal


def test_a_program_that_runs_once_has_the_same_bits(optimised):
    whole, brief = (
        f(draws)(jax.random.key(3)) for f in (compiling.jit, compiling.once)
    )
    chex.assert_trees_all_equal(whole, brief)


STRATEGY_ROWS = [
    {"strategy__name": name, "method__name": method_of(name)} for name in STRATEGIES
]
METHOD_ROWS = [
    {"strategy__name": strategy_of(name), "method__name": name} for name in METHODS
]
BACKBONE_ROWS = [
    {"backbone__name": name, "backbone__width": 0}  # its own
    for name in BACKBONES
    # One is told which class an image is of, one is for images of 25 pixels or more.
    if name not in ("gated_mlp", "reduced_resnet18")
]


@pytest.mark.parametrize(
    "fields",
    slow(*STRATEGY_ROWS, *METHOD_ROWS, *BACKBONE_ROWS),
    ids=lambda fields: "-".join(map(str, fields.values())),
)
def test_a_learner_begins_with_the_same_bits(optimised, fields):
    learning = tiny_learning(**fields)
    labelled = learning.method.head is not None
    first = next(stream(1, short=False, labelled=labelled))
    whole, brief = (
        f(learning.init)(jax.random.key(3), first)
        for f in (compiling.jit, compiling.once)
    )
    assert equal(whole, brief)


def test_a_program_that_runs_once_is_compiled_briefly(optimised):
    whole = compiling.options() or {}
    assert compiling.brief_options() == whole | compiling.BRIEF
    compiling.brief_options.cache_clear()
    jax.config.update("jax_disable_most_optimizations", True)
    assert compiling.brief_options() == compiling.options()
