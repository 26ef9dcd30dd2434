"""What the compiler is asked for, and that it may not know it."""

import jax
import jax.numpy as jnp
import pytest

from ocssl_jax import compiling


@pytest.fixture(autouse=True)
def asked_anew():
    compiling.options.cache_clear()
    yield
    compiling.options.cache_clear()


def test_a_program_computes_the_same_and_keeps_jits_arguments():
    add = compiling.jit(lambda x, n: x + n, static_argnums=1)
    assert add(jnp.float32(2), 3) == 5


def test_an_option_that_the_compiler_lacks_is_left_out(monkeypatch):
    monkeypatch.setattr(compiling, "OLDER", {"xla_cpu_no_such_option": False})
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_cpu_no_such_option"):
        jax.jit(lambda: 0, compiler_options=compiling.OLDER)()
    assert compiling.options() is None
    assert compiling.jit(lambda x: x + 1)(1) == 2


def test_accelerators_are_asked_for_nothing(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiling.options() is None
