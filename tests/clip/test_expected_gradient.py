"""The mean gradient over every batch that can be drawn, beside that of the pool."""

from itertools import combinations, product

import contrast_oracle as oracle
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ocssl_jax.clip import criteria
from ocssl_jax.clip.contrast import Estimators
from ocssl_jax.clip.objectives import ClassLosses

SIZES, TAU, MARGIN, STRENGTH = (2, 2, 4), 0.2, 0.3, 0.1
LABEL = np.repeat(range(3), SIZES)
OWN = [np.flatnonzero(k == LABEL).tolist() for k in range(3)]
BATCH, CLASSES, ROWS = 5, 2, 2  # no uniform batch is of one class alone
STILL = 1e-12  # a rate at which the averages stay what they are


def uniform():
    """Every batch, its probability and its rows' shares."""
    draws = list(combinations(range(len(LABEL)), BATCH))
    for rows in draws:
        sizes = np.array(SIZES)[LABEL[list(rows)]]
        yield rows, 1 / len(draws), len(LABEL) / (sizes * BATCH)


def balanced():
    """The same of class-balanced batches."""
    pairs = list(combinations(range(3), CLASSES))
    for pair in pairs:
        draws = list(product(*(combinations(OWN[k], ROWS) for k in pair)))
        for parts in draws:
            share = np.full(CLASSES * ROWS, len(SIZES) / CLASSES / ROWS)
            yield sum(parts, ()), 1 / len(pairs) / len(draws), share


def pool(cosines, name, weight):
    """The objective over the pool, and what it has averages of."""
    counts = np.array(SIZES)
    row = np.ones(len(LABEL)) if weight == "sample" else 1 / counts[LABEL]
    other = jnp.asarray((LABEL[:, None] != LABEL[None, :]) * row[None])
    pairs = oracle.sides(cosines[:, LABEL], MARGIN if name == "gdro" else None)
    log_g = [
        jnp.log(jnp.sum(other * jnp.exp(a / TAU), axis=1) / jnp.sum(other, axis=1))
        for a in pairs
    ]
    rows = TAU * (log_g[0] + log_g[1])
    losses = jax.ops.segment_sum(rows, jnp.asarray(LABEL), 3) / counts
    robust = STRENGTH * jnp.log(jnp.mean(jnp.exp(losses / STRENGTH)))
    return rows.mean() if name == "gcl" else robust, (log_g, losses)


@pytest.mark.parametrize("name", ["gcl", "gdro"])
@pytest.mark.parametrize(
    ("draws", "weight", "divided", "unbiased"),
    [
        (uniform, "sample", "as the library does", True),
        (uniform, "class", "as the library does", True),
        (balanced, "sample", "as the library does", True),
        (balanced, "class", "as the library does", True),
        # Divided by what was drawn, whose sum is another from batch to batch: the mean
        # of quotients is no quotient of means.
        (uniform, "class", "by what was drawn", False),
        (balanced, "sample", "by what was drawn", False),
    ],
)
def test_with_true_averages(name, draws, weight, divided, unbiased, monkeypatch):
    if divided == "by what was drawn":
        monkeypatch.setattr(criteria, "expected", lambda *_: None)
    settings = {"temperature": TAU, "rate": STILL, "negatives": "class"}
    settings["negative_weight"] = weight
    if name == "gdro":
        settings |= {"surrogate": "squared_hinge", "margin": MARGIN}
        settings |= {"class_rate": STILL, "strength": STRENGTH}
    criterion = criteria.CRITERIA[name](**settings)
    with jax.enable_x64(True):
        cosines = np.random.default_rng(0).normal(size=(len(LABEL), 3)) * 0.3
        cosines[:, 2] += 0.3  # the texts of the large class are nearer
        slope = jax.jacobian(lambda s: pool(s, name, weight)[0])(jnp.asarray(cosines))
        log_g, losses = pool(jnp.asarray(cosines), name, weight)[1]
        state = Estimators(*log_g)
        if name == "gdro":
            state = state, ClassLosses(losses, jnp.ones(3, bool))
        classes = criteria.Classes(
            jnp.arange(3), jnp.asarray(SIZES, jnp.float64), jnp.ones(3, bool)
        )

        @jax.jit
        def gradient(rows, share):
            label, kind = jnp.asarray(LABEL)[rows], draws is balanced
            batch = criteria.Batch(rows, label, rows, share > 0, share, kind)
            loss = lambda s: criterion.loss(state, s[rows], batch, classes)[0]
            return jax.grad(loss)(jnp.asarray(cosines))

        mean = sum(p * gradient(jnp.asarray(rows), s) for rows, p, s in draws())
    off = float(jnp.linalg.norm(mean - slope) / jnp.linalg.norm(slope))
    assert off < 1e-6 if unbiased else off > 0.02
