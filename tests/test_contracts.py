"""What every registered strategy and method promises, whatever it does.

A new row in a registry is tested here without a further line.
"""

from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import bits, equal, method_of, strategy_of, stream, tiny_learning

from configs import default
from ocssl_jax.methods import METHODS
from ocssl_jax.pairs import POOLED
from ocssl_jax.strategies import BOUNDARY_AWARE, STRATEGIES

BATCHES = 14  # enough for every memory of `tiny` to fill, evict and consolidate

# (strategy, method, fidelity): every strategy, every method, every quirk.
ROWS = [
    *((s, method_of(s), "paper") for s in STRATEGIES),
    *((s, "simclr", "reference") for s in default.get_config().reference.strategy),
    *((strategy_of(m), m, "paper") for m in METHODS if m != "simclr"),
    *((s, "clip", "paper") for s in POOLED if method_of(s) != "clip"),
    ("rals", "barlow_twins", "paper"),  # which it judges part by part
]
# Compiling the vmapped step takes longest; tests/test_mesh.py has CLIMB's by default.
QUICK = {("cassle_r", "simclr", "paper")}
# Every strategy of SSL, and MIR for those of classifiers; the rest is slow.
DEFAULT = {(s, "simclr", "paper") for s in STRATEGIES if method_of(s) == "simclr"}
DEFAULT |= {("er_mir", "supervised", "paper")}


def rows_of(usual, rows):
    """Parametrises a test by a row, slow but for the usual ones."""
    mark = lambda row: () if row in usual else pytest.mark.slow
    marked = [pytest.param(row, marks=mark(row), id="-".join(row)) for row in rows]
    return pytest.mark.parametrize("row", marked)


# VICReg's covariances grow with the fourth power of the projections: plain SGD at the
# default rate overflows, and at a tenth of it rounding grows from step to step. Its
# paper trains with LARS.
OPTIMIZER = {
    "vicreg": {"optimizer__name": "lars", "optimizer__learning_rate": 0.01},
}
# Every other row has the quick augmentation of `tiny`.
AUGMENT = {("er", "simclr", "paper"): {"augment__name": "simclr"}}
# SCALE brings its own objective and head: of the method it trains the encoder alone.
# No word is read where labels are contrasted.
TRAINED = {"scale": ("encoder",), "co2l": ("encoder", "projector")}
TRAINED |= {"cassle": ("encoder", "projector")}
every_row = rows_of(DEFAULT, ROWS)
task_free = rows_of(DEFAULT, [row for row in ROWS if row[0] not in BOUNDARY_AWARE])


class Trained:
    """One row, compiled once and trained once; the tests below share it."""

    def __init__(self, row):
        strategy, method, fidelity = row
        self.learning = tiny_learning(
            strategy__rals__part_size=2,
            strategy__name=strategy,
            method__name=method,
            fidelity=fidelity,
            **OPTIMIZER.get(method, {}),
            **AUGMENT.get(row, {}),
        )
        self.init = jax.jit(self.learning.init)
        self.step = jax.jit(self.learning.step, donate_argnums=0)
        labelled = self.learning.method.head is not None
        self.batches = list(stream(BATCHES, labelled=labelled))
        self.initial = jax.device_get(self.start())
        state, self.metrics = self.run(self.start(), self.batches)
        self.final = jax.device_get(state)

    def start(self, seed=0):
        return self.init(jax.random.key(seed), self.batches[0])

    def run(self, state, batches):
        seen = []
        for batch in batches:
            state, metrics = self.step(state, batch)
            seen.append(jax.device_get(metrics))
        return state, seen


@cache
def trained(row) -> Trained:
    return Trained(row)


@every_row
def test_compiles_once_from_empty_to_full(row):
    t = trained(row)
    assert t.step._cache_size() == 1
    chex.assert_trees_all_equal_shapes_and_dtypes(t.initial, t.final)


@every_row
def test_learns_something_and_stays_finite(row):
    t = trained(row)
    for x in bits((t.final.params, t.final.model, t.final.opt_state)):
        assert np.isfinite(x).all()
    for metrics in t.metrics:
        assert np.isfinite(metrics["loss"]) and np.isfinite(metrics["gradient_norm"])
    parts = TRAINED.get(row[0], tuple(t.final.params["method"]))
    before, after = (
        bits([state.params["method"][part] for part in parts])
        for state in (t.initial, t.final)
    )
    moved = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    assert all(moved)
    assert int(t.final.step) == BATCHES


@every_row
def test_same_seed_same_bits_other_seed_other_bits(row):
    t = trained(row)
    again, _ = t.run(t.start(), t.batches)
    assert equal(t.final, again)
    other, _ = t.run(t.start(seed=1), t.batches)
    assert not equal(t.final, other)


@every_row
@pytest.mark.parametrize("at", [1, 9])
def test_stop_and_resume_gives_the_same_bits(row, at):
    t = trained(row)
    state, _ = t.run(t.start(), t.batches[:at])
    host = jax.tree.map(lambda x: jax.device_get(x), state)
    state, _ = t.run(jax.device_put(host), t.batches[at:])
    assert equal(t.final, state)


@every_row
def test_state_is_donated(row):
    t = trained(row)
    state = t.start()
    old = jax.tree.leaves(state)
    t.step(state, t.batches[0])
    kept = [x for x in old if not x.is_deleted() and x.size > 1]
    # The state's buffers are reused; only a leaf that passes through may be left.
    assert sum(x.nbytes for x in kept) == 0


@rows_of(QUICK, ROWS)
def test_vmap_over_seeds_equals_a_loop(row):
    """Step by step from the same states: differences of rounding would grow on the way,
    up to ten times with each batch of so small a network."""
    t = trained(row)
    step = jax.jit(jax.vmap(t.learning.step, in_axes=(0, None)))
    seeds = [t.start(0), t.start(1)]
    for batch in t.batches[:8]:
        many, _ = step(jax.tree.map(lambda *x: jnp.stack(x), *seeds), batch)
        seeds = [t.step(seed, batch)[0] for seed in seeds]
        for i, alone in enumerate(seeds):
            one = jax.tree.map(lambda x, i=i: x[i], many)
            for a, b in zip(bits(alone), bits(one), strict=True):
                np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


@task_free
def test_a_task_free_strategy_sees_no_boundary(row):
    t = trained(row)
    flipped = [b._replace(boundary=~b.boundary) for b in t.batches]
    state, _ = t.run(t.start(), flipped)
    assert equal(t.final, state)


@every_row
def test_padded_rows_have_no_influence(row):
    t = trained(row)
    last = t.batches[-1]
    noise = jnp.where(last.mask[:, None, None, None], last.image, 255 - last.image)
    ids = jnp.where(last.mask, last.id, 7777)
    changed = [*t.batches[:-1], last._replace(image=noise, id=ids)]
    state, _ = t.run(t.start(), changed)
    assert equal(t.final, state)


def test_rows_cover_the_registries():
    assert {row[0] for row in ROWS} == set(STRATEGIES)
    assert {row[1] for row in ROWS} == set(METHODS)
