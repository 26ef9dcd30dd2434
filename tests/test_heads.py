"""Heads: shapes, the papers' layer lists, PyTorch's initial bounds, masks."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ocssl_jax.heads import Aligner, Linear, Predictor, Projector

MASK = np.array([True, True, False, True, False, True])
HEADS = {
    "projector": Projector(12, True, jnp.float32),
    "projector without final norm": Projector(12, False, jnp.float32),
    "projector of two layers": Projector(12, True, jnp.float32, 2, 20, "hidden"),
    "projector without norms": Projector(12, True, jnp.float32, 2, 20, "none"),
    "predictor": Predictor(5, 12, jnp.float32),
    "aligner": Aligner(5, 12, jnp.float32),
}


def example(head):
    x = jax.random.normal(jax.random.key(1), (6, 8))
    return x, jax.jit(lambda: head.init(jax.random.key(0), x, train=False))()


def train(head, variables, x, mask=None):
    return head.apply(variables, x, train=True, mask=mask, mutable=["batch_stats"])


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("use_bias", [True, False])
def test_linear_is_affine_with_pytorch_bounds(use_bias):
    layer = Linear(300, use_bias, jnp.float32)
    x = jax.random.normal(jax.random.key(1), (4, 100))
    params = layer.init(jax.random.key(0), x)["params"]
    assert set(params) == ({"kernel", "bias"} if use_bias else {"kernel"})
    p = {name: np.asarray(value) for name, value in params.items()}
    for value in p.values():  # U(+-0.1): deviation 0.1 / sqrt(3)
        assert 0.09 < np.abs(value).max() <= 0.1
        assert np.std(value) == pytest.approx(0.1 / 3**0.5, rel=0.1)
    expected = np.asarray(x) @ p["kernel"] + p.get("bias", 0.0)
    got = layer.apply({"params": params}, x)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_parameter_counts_name_every_layer():
    f, d, hidden = 8, 12, 5
    two = 2 * (f * f + 2 * f)  # linear without bias, norm with scale and bias
    expected = {
        "projector": two + f * d,
        "projector without final norm": two + f * d,
        "projector of two layers": f * 20 + 2 * 20 + 20 * d + d,
        "projector without norms": f * 20 + 20 + 20 * d + d,
        "predictor": f * hidden + 2 * hidden + hidden * d + d,
        "aligner": f * hidden + 2 * hidden + hidden * d + d,
    }
    for name, head in HEADS.items():
        assert count(example(head)[1]["params"]) == expected[name], name
    stats = example(HEADS["projector"])[1]["batch_stats"]
    assert count(stats) == 2 * (f + f + d)


def test_projector_equals_the_written_formula():
    head = HEADS["projector"]
    x, variables = example(head)
    p = jax.tree.map(np.asarray, variables["params"])

    def norm(a):
        return (a - a.mean(0)) / np.sqrt(a.var(0) + 1e-5)

    y = np.maximum(norm(np.asarray(x) @ p["linear1"]["kernel"]), 0)
    y = np.maximum(norm(y @ p["linear2"]["kernel"]), 0)
    y = y @ p["linear3"]["kernel"]
    np.testing.assert_allclose(train(head, variables, x)[0], norm(y), atol=2e-4)
    plain = HEADS["projector without final norm"]
    variables["batch_stats"].pop("norm3")
    np.testing.assert_allclose(train(plain, variables, x)[0], y, atol=1e-5)


def test_projector_without_norms_is_two_affine_maps():
    """CaSSLe's for SimCLR."""
    x, variables = example(HEADS["projector without norms"])
    p = jax.tree.map(np.asarray, variables["params"])
    y = np.maximum(np.asarray(x) @ p["linear1"]["kernel"] + p["linear1"]["bias"], 0)
    y = y @ p["linear2"]["kernel"] + p["linear2"]["bias"]
    got = train(HEADS["projector without norms"], variables, x)[0]
    np.testing.assert_allclose(got, y, atol=1e-5)


def test_predictor_equals_the_written_formula():
    head = HEADS["predictor"]
    x, variables = example(head)
    p = jax.tree.map(np.asarray, variables["params"])
    y = np.asarray(x) @ p["linear1"]["kernel"]
    y = np.maximum((y - y.mean(0)) / np.sqrt(y.var(0) + 1e-5), 0)
    y = y @ p["linear2"]["kernel"] + p["linear2"]["bias"]
    np.testing.assert_allclose(train(head, variables, x)[0], y, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_masked_equals_subset(name):
    head = HEADS[name]
    x, variables = example(head)
    x = x.at[2].set(jnp.nan).at[4].set(1e6)

    def loss(params, x, mask):
        y, new = train(head, {**variables, "params": params}, x, mask)
        return jnp.sum(jnp.sin(y)), (y, new)  # sin(0) = 0: masked rows add nothing

    run = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    (dp, dx), (y, new) = run(variables["params"], x, MASK)
    (dp_few, dx_few), (y_few, new_few) = run(variables["params"], x[MASK], None)
    got, expected = (dp, dx[MASK], y[MASK], new), (dp_few, dx_few, y_few, new_few)
    chex.assert_trees_all_close(got, expected, rtol=1e-3, atol=1e-4)
    chex.assert_trees_all_equal(y[~MASK], jnp.zeros((2, 12)))


@pytest.mark.parametrize("name", HEADS)
def test_eval_mode_leaves_statistics_and_gives_float32(name):
    head = HEADS[name].clone(dtype=jnp.bfloat16)
    x, variables = example(head)
    chex.assert_type(jax.tree.leaves(variables), jnp.float32)
    y, new = head.apply(variables, x, train=False, mutable=["batch_stats"])
    chex.assert_shape(y, (6, 12))
    chex.assert_type(y, jnp.float32)
    known = variables.get("batch_stats", {})  # a head without norms has none
    chex.assert_trees_all_equal(new.get("batch_stats", {}), known)
    wide = HEADS[name].apply(variables, x, train=False)
    np.testing.assert_allclose(y, wide, atol=0.05)
