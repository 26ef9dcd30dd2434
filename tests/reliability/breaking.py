"""Runs whose seed 1 breaks: a NaN among its parameters amid the stream.

As a program it is `launch.py` for such a run.
"""

import runpy

import jax
import jax.numpy as jnp
import pytest
from processes import ROOT

from ocssl_jax import experiment
from ocssl_jax.build import build

BREAKS = 6  # the stream batch that breaks it, in the second of three experiences


class Breaking:
    """A step whose seed 1 has a NaN among its parameters after a stream batch."""

    def __init__(self, learning):
        victim = jax.random.key_data(learning_key(1))
        self.plain = learning.step

        def step(state, stream):
            mine = jnp.all(jax.random.key_data(state.key) == victim)
            due = mine & (state.step == BREAKS - 1)
            spoil = lambda x: jnp.where(due, jnp.log(due - 1.0), x)
            params = jax.tree.map(spoil, state.params)
            return self.plain(state.replace(params=params), stream)

        self.step = step


def learning_key(seed):
    """The key that the state of a seed carries; see `step.make_step`."""
    return jax.random.split(jax.random.key(seed), 3)[2]


def breaking(patch: pytest.MonkeyPatch) -> None:
    """Make every experiment that is built from now on break seed 1."""

    def built(config, **kw):
        done = build(config, **kw)
        broken = done.learning._replace(step=Breaking(done.learning).step)
        return done._replace(learning=broken)

    patch.setattr(experiment, "build", built)


if __name__ == "__main__":
    breaking(pytest.MonkeyPatch())
    runpy.run_path(str(ROOT / "launch.py"), run_name="__main__")
