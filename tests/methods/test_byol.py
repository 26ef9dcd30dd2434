"""BYOL's slow copy: its recurrence, its own statistics, no gradient; who is probed."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import ssl_oracle as oracle
from tiny import SHAPE, bits, stream, tiny_learning

from ocssl_jax.core import Batch
from ocssl_jax.losses import masked_mean

KEY = jax.random.key(0)


COPIED = ("encoder", "projector")


def test_the_copy_starts_equal_and_follows_the_recurrence():
    learning = tiny_learning(
        method__name="byol",
        method__byol__momentum=0.7,
        strategy__name="none",
        augment__name="none",
        passes=1,
    )
    arrivals = list(stream(5))
    init, step = jax.jit(learning.init), jax.jit(learning.step)
    state = init(KEY, arrivals[0])
    online = lambda: bits({part: state.params["method"][part] for part in COPIED})
    slow = lambda: bits(state.model["momentum"]["params"])
    want = [x.astype(np.float64) for x in slow()]
    chex.assert_trees_all_equal(slow(), online())
    for arrival in arrivals:
        state, _ = step(state, arrival)
        want = [0.7 * t + 0.3 * p for t, p in zip(want, online(), strict=True)]
        chex.assert_trees_all_close(slow(), want, rtol=1e-5, atol=1e-6)
    assert not np.allclose(slow()[0], online()[0], atol=1e-3)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_momentum_0_is_the_learner_and_momentum_1_stays(momentum):
    method, params, model, _ = example(method__byol__momentum=momentum)
    got = method.update(params, model)["momentum"]["params"]
    online = {part: params[part] for part in COPIED}
    want = model["momentum"]["params"] if momentum else online
    chex.assert_trees_all_close(got, want, rtol=1e-6)


def example(**fields):
    """A batch with a masked row, and a model whose copy is another network."""
    method = tiny_learning(method__name="byol", **fields).method
    init = jax.jit(method.init)
    params, model = init(KEY, jnp.zeros((1, *SHAPE)))
    _, other = init(jax.random.key(1), jnp.zeros((1, *SHAPE)))
    views = np.random.default_rng(0).normal(size=(2, 7, *SHAPE)).astype(np.float32)
    batch = Batch(views=views, mask=np.arange(7) % 4 != 3, items={})
    return method, params, model | {"momentum": other["momentum"]}, batch


def test_the_copys_statistics_are_those_of_its_own_forwards():
    """View after view, under the copy's weights; nothing but the loss moves them."""
    method, params, model, batch = example()
    out = jax.jit(method.loss)(params, model, batch, KEY)
    rows = batch.views[:, batch.mask].astype(np.float64)
    for weights, got in (
        (model["momentum"]["params"], out.model["momentum"]["model"]),
        (params, out.model),
    ):
        p = jax.tree.map(lambda x: np.asarray(x, np.float64), weights)
        want = {f"norm{i}": (0.0, 1.0) for i in (1, 2, 3)}
        for view in rows:
            e = oracle.features(p["encoder"], view)
            for layer, x in oracle.projections(p["projector"], e, True)[1].items():
                mean, var = want[layer]
                mean, var = (
                    0.9 * mean + 0.1 * x.mean(0),
                    0.9 * var + 0.1 * x.var(0, ddof=1),
                )
                want[layer] = mean, var
        for layer, (mean, var) in want.items():
            stats = got["projector"][layer]
            np.testing.assert_allclose(stats["mean"], mean, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(stats["var"], var, rtol=1e-4, atol=1e-5)
    before, after = out.model["momentum"], method.update(params, out.model)["momentum"]
    chex.assert_trees_all_equal(before["model"], after["model"])
    chex.assert_trees_all_equal(before["params"], model["momentum"]["params"])
    _, seen = (method.forward(params, model, batch.views[0], train=t) for t in (0, 1))
    chex.assert_trees_all_equal(seen.model["momentum"], model["momentum"])


def test_no_gradient_enters_the_copy():
    method, params, model, batch = example()

    def objective(slow, params):
        moved = model | {"momentum": model["momentum"] | {"params": slow}}
        rows = method.loss(params, moved, batch, KEY).loss
        return masked_mean(rows, batch.mask)

    to_slow, to_params = jax.jit(jax.grad(objective, argnums=(0, 1)))(
        model["momentum"]["params"], params
    )
    for leaf in bits(to_slow):
        np.testing.assert_array_equal(leaf, 0)
    assert all(np.abs(leaf).max() > 0 for leaf in bits(to_params))


@pytest.mark.parametrize("probe_slow", [True, False])
def test_the_probed_encoder_is_the_slow_one_unless_told_otherwise(probe_slow):
    method, params, model, _ = example(
        method__byol__probe_momentum_encoder=probe_slow, backbone__name="convnet"
    )
    own = jax.tree.map(lambda x: x + 1, model["momentum"]["model"])
    model = model | {"momentum": model["momentum"] | {"model": own}}
    probed = method.encoder(params, model)
    slow = {
        "params": model["momentum"]["params"]["encoder"],
        "batch_stats": own["encoder"],
    }
    online = {"params": params["encoder"], "batch_stats": model["encoder"]}
    assert bits(own["encoder"])
    chex.assert_trees_all_equal(probed, slow if probe_slow else online)
