"""The supervised contrastive loss and its distance, against plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
from tiny import stream, tiny_learning

from ocssl_jax.clip.by_labels import alike, between
from ocssl_jax.core import Batch
from ocssl_jax.losses import sup_con

T = 0.3


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def plainly(z, label, mask, anchors):
    """Mean over anchors, both views, of the mean over positives of -log p."""
    n = len(label)
    u, real = unit(z.reshape(2 * n, -1)), np.flatnonzero(np.tile(mask, 2))
    found = []
    for i in real:
        if not anchors[i % n]:
            continue
        others = [j for j in real if j != i]
        log_z = np.log(np.sum(np.exp([u[i] @ u[j] / T for j in others])))
        mine = [j for j in others if label[j % n] == label[i % n]]
        found.append(-np.mean([u[i] @ u[j] / T - log_z for j in mine]))
    return np.mean(found)


def rows(seed, n=9, d=5):
    rng = np.random.default_rng(seed)
    label, mask = rng.integers(0, 3, n), rng.random(n) < 0.8
    return rng.normal(size=(2, n, d)), label, mask, rng.random(n) < 0.6


def test_the_loss_is_that_of_a_plain_loop():
    for seed in range(4):
        z, label, mask, anchors = rows(seed)
        positive = alike(jnp.asarray(label), jnp.asarray(mask))
        found = sup_con(
            jnp.asarray(z, jnp.float32), mask, anchors & mask, positive, temperature=T
        )
        np.testing.assert_allclose(found, plainly(z, label, mask, anchors), rtol=1e-5)


def test_the_distance_contrasts_with_targets_and_with_predictions():
    """Targets are each prediction's negatives and the reverse, no row its own."""
    rng = np.random.default_rng(0)
    p, t = unit(rng.normal(size=(6, 4))), unit(rng.normal(size=(6, 4)))
    mask = np.array([True] * 5 + [False])
    logits = (p @ t.T / T)[:5, :5]
    log_p = lambda s: s - np.log(np.exp(s).sum(axis=1, keepdims=True))
    expected = -(np.diag(log_p(logits)) + np.diag(log_p(logits.T))) / 2
    found = between(jnp.asarray(3 * p), jnp.asarray(2 * t), mask, temperature=T)
    np.testing.assert_allclose(found[:5], expected, rtol=1e-5)
    assert found[5] == 0


def test_a_method_contrasts_its_anchors_and_reads_no_word():
    made = tiny_learning(
        method__name="clip",
        method__clip__objective="sup_con",
        method__clip__objectives__sup_con__temperature=T,
        strategy__name="none",
    )
    first = next(stream(1, short=False, labelled=True))
    state = made.init(jax.random.key(0), first)
    params, model = state.params["method"], state.model
    views = jax.random.normal(jax.random.key(1), (2, 4, 8, 8, 1))
    few = jnp.array([True, False, True, False])
    mask = jnp.ones(4, bool)
    batch = Batch(views, mask, first.items(), objective=few, pool=first.pool)
    loss = lambda params: made.method.loss(params, model, batch, jax.random.key(0))
    out = loss(params)
    z, label = np.asarray(out.z, np.float64), np.asarray(first.label)
    expected = plainly(z, label, np.ones(4, bool), np.asarray(few))
    np.testing.assert_allclose(out.loss, expected, rtol=1e-4)
    assert np.flatnonzero(out.model["seen"]).tolist() == [0, 1]
    slope = jax.grad(lambda params: loss(params).loss[0])(params)
    moved = {k: any(np.any(x) for x in jax.tree.leaves(v)) for k, v in slope.items()}
    assert moved == {"encoder": True, "projector": True, "text": False}
