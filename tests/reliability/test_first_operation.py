"""The operation that is to blame is found wherever it is."""

import jax
import jax.numpy as jnp

from ocssl_jax.first_operation import first_operation


def test_first_operation_goes_into_loops_branches_and_gradients():
    def looped(x):
        return jax.lax.scan(lambda c, y: (c, jnp.log(y)), 0.0, x)[1].sum()

    def branched(x):
        return jax.lax.cond(x[0] > 0, lambda: 1 / (x[1] - x[0]), lambda: x[0])

    def repeated(x):
        return jax.lax.while_loop(
            lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.exp(c[1] * 100)), (0, x[0])
        )[1]

    handed_on = lambda x: jnp.max(jnp.where(x > 0, x, -jnp.inf))
    ones, zero = jnp.ones(2), jnp.zeros(2)
    assert first_operation(looped, ones) is None
    assert first_operation(looped, zero).startswith("log in ")
    assert first_operation(jax.grad(looped), zero).startswith("log in ")
    assert first_operation(branched, ones).startswith("div in ")
    assert first_operation(branched, zero) is None
    assert first_operation(repeated, ones).startswith("exp in ")
    assert first_operation(handed_on, zero) is None


def test_a_scan_is_gone_through_as_it_would_run():
    def walked(x, share, reverse):
        step = lambda c, y: (c - share * y, jnp.log(c))
        return jax.lax.scan(step, 1.0, x, reverse=reverse)[1].sum()

    x, share = jnp.array([3.0, 0.5]), jnp.ones(())
    forward, backward = (lambda x, s, r=r: walked(x, s, r) for r in (False, True))
    assert first_operation(forward, x, share).startswith("log in ")  # of 1 - 3
    assert first_operation(backward, x, share) is None  # of 1 - 0.5
    assert first_operation(forward, x, share / 4) is None  # of 1 - 3 / 4
