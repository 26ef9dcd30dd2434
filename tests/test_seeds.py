"""Seeds trained together, as on an accelerator, are the seeds trained in turn."""

import jax
import numpy as np
import pytest
from tiny import bits, stream, tiny_learning

from ocssl_jax import seeds


@pytest.mark.parametrize(
    "strategy", ["none", pytest.param("climb", marks=pytest.mark.slow)]
)
def test_together_equals_in_turn(strategy):
    learning = tiny_learning(strategy__name=strategy)
    keys = [jax.random.key(s) for s in (3, 4)]
    arrivals = [list(stream(6, seed=s)) for s in (3, 4)]
    final, logs = [], []
    for form in (seeds.in_turn, seeds.together):
        group = form(learning.init, learning.step)
        states = group.init(keys, [a[0] for a in arrivals])
        for batch in zip(*arrivals, strict=True):
            states, metrics = group.step(states, list(batch))
            states = group.join(group.split(states))
        final.append(group.split(states))
        logs.append(group.per_seed(jax.device_get(metrics)))
    for ours, theirs in zip(*final, strict=True):
        for a, b in zip(bits(ours), bits(theirs), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
    for ours, theirs in zip(*logs, strict=True):
        assert ours.keys() == theirs.keys()
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)


def test_the_form_follows_the_platform():
    assert seeds.for_platform("cpu", abs, abs).split is list
    assert seeds.for_platform("gpu", abs, abs).split is not list
