"""Seeds carried by a mesh's program are the seeds learning one after the other."""

import jax
import numpy as np
import pytest
from linear_method import install
from tiny import BATCH, SHAPE, bits, tiny_learning

from ocssl_jax import seeds
from ocssl_jax.core import Stream
from ocssl_jax.mesh import make_mesh

SEEDS, LENGTH, BATCHES = (3, 4), 4, 6


def feed(first, stop):
    """Batches first..stop of both seeds, filled up with the last to LENGTH."""
    rng = np.random.default_rng(0)
    shape = (BATCHES, len(SEEDS), BATCH)
    image = rng.integers(0, 256, (*shape, *SHAPE), np.uint8)
    mask = np.ones(shape, bool)
    mask[-1, :, 2:] = False
    t = np.minimum(np.arange(first, first + LENGTH), stop - 1)
    boundary = np.broadcast_to(t[:, None] % 5 == 0, (LENGTH, len(SEEDS)))
    index = np.arange(image[..., 0, 0, 0].size, dtype=np.int32).reshape(shape)
    return Stream(image[t], index[t], mask[t], boundary)


def carried(carrier, chunks=((0, 4), (4, 6))):
    states, log = carrier.init(SEEDS, feed(0, 1)), []
    for first, stop in chunks:
        states, seen = carrier.learn(
            states, feed(first, stop), stop - first, [True] * len(SEEDS)
        )
        log += carrier.metrics(seen, stop - first)
        states = carrier.join(carrier.split(states))
    return carrier.split(states), log


def assert_same(ours, theirs, exact=False):
    assert len(ours[1]) == len(theirs[1]) == BATCHES
    for state, other in zip(ours[0], theirs[0], strict=True):
        for a, b in zip(bits(state), bits(other), strict=True):
            if exact:
                np.testing.assert_array_equal(a, b)
            else:
                np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
    for per_seed, others in zip(ours[1], theirs[1], strict=True):
        for seen, other in zip(per_seed, others, strict=True):
            assert seen.keys() == other.keys()
            assert seen["loss"] == pytest.approx(other["loss"], rel=1e-3)


@pytest.mark.parametrize(
    "strategy", ["none", pytest.param("climb", marks=pytest.mark.slow)]
)
def test_one_program_equals_one_after_the_other(strategy, monkeypatch):
    install(monkeypatch)  # without a ReLU, which rounding may switch
    learning = tiny_learning(
        method__name="linear",
        strategy__name=strategy,
        strategy__climb__use_aligner=False,
    )
    mesh = make_mesh(jax.devices()[:1], seeds=2, seed=0, data=0)
    alone = carried(seeds.in_turn(learning.init, learning.step))
    for vmap in (True, False):
        carrier = seeds.on_mesh(learning.init, learning.step, mesh, vmap=vmap)
        together = carried(carrier)
        assert_same(together, alone)
    # One program for any number of batches: chunks change no bit.
    assert_same(carried(carrier, ((0, 1), (1, 3), (3, 6))), together, exact=True)


def test_the_form_follows_the_platform():
    mesh = make_mesh(jax.devices()[:1], seeds=2, seed=0, data=0)
    assert seeds.carrier(abs, abs, mesh, vmap=True).split is list
