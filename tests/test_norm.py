"""Batch norm beside a NumPy oracle; masked rows must not exist for anyone."""

import os
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from devices import xla_flags
from flax import linen as nn

from ocssl_jax.backbones.conv import conv
from ocssl_jax.backbones.norm import EPSILON, MOMENTUM, BatchNorm, visible
from ocssl_jax.compiling import jit

MASK = np.array([True, False, True, True, False, True])


def images(key=0, n=6, dtype=jnp.float32):
    return (3 + 2 * jax.random.normal(jax.random.key(key), (n, 3, 2, 5))).astype(dtype)


def variables_for(x, affine=True):
    """Variables unlike the initial ones, so that each takes part."""
    v = BatchNorm(affine=affine).init(jax.random.key(0), x, train=False)
    keys = iter(jax.random.split(jax.random.key(9), 4))
    return jax.tree.map(lambda a: a + jax.random.uniform(next(keys), a.shape), v)


def train(variables, x, mask=None, affine=True):
    return BatchNorm(affine=affine).apply(
        variables, x, train=True, mask=mask, mutable=["batch_stats"]
    )


def oracle(variables, x):
    """PyTorch's rule in float64: biased variance here, unbiased for the running one."""
    x = np.asarray(x, np.float64)
    flat = x.reshape(-1, x.shape[-1])
    mean, var = flat.mean(0), flat.var(0)
    p, s = variables.get("params"), variables["batch_stats"]
    y = (x - mean) / np.sqrt(var + 1e-5)
    if p:
        y = y * np.asarray(p["scale"]) + np.asarray(p["bias"])
    unbiased = flat.var(0, ddof=1)
    return y, {
        "mean": 0.9 * np.asarray(s["mean"]) + 0.1 * mean,
        "var": 0.9 * np.asarray(s["var"]) + 0.1 * unbiased,
    }


def test_constants_are_pytorchs():
    assert (MOMENTUM, EPSILON) == (0.1, 1e-5)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(6, 3, 2, 5), (6, 5)])
@pytest.mark.parametrize("offset", [0.0, 1000.0])  # variance must survive large means
def test_train_mode_equals_oracle(shape, affine, offset):
    x = offset + jax.random.normal(jax.random.key(1), shape)
    variables = variables_for(x, affine)
    y, new = train(variables, x, affine=affine)
    expected, running = oracle(variables, x)
    tolerance = 1e-5 if offset == 0 else 1e-3
    np.testing.assert_allclose(y, expected, atol=tolerance)
    chex.assert_trees_all_close(new["batch_stats"], running, rtol=1e-5, atol=1e-5)
    assert ("params" in variables) == affine


def test_running_variance_of_two_values_by_hand():
    x = jnp.array([[1.0], [3.0]])  # mean 2, biased variance 1, unbiased 2
    variables = BatchNorm(affine=False).init(jax.random.key(0), x, train=True)
    _, new = train(variables, x, affine=False)
    np.testing.assert_allclose(new["batch_stats"]["mean"], [0.2], rtol=1e-6)
    np.testing.assert_allclose(new["batch_stats"]["var"], [0.9 + 0.2], rtol=1e-6)


def test_eval_mode_uses_running_statistics_and_leaves_them():
    x = images()
    variables = variables_for(x)
    y, new = BatchNorm(affine=True).apply(
        variables, x, train=False, mutable=["batch_stats"]
    )
    p, s = jax.tree.map(np.asarray, (variables["params"], variables["batch_stats"]))
    normal = (np.asarray(x) - s["mean"]) / np.sqrt(s["var"] + 1e-5)
    np.testing.assert_allclose(y, normal * p["scale"] + p["bias"], rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_equal(new["batch_stats"], s)


def test_init_in_train_mode_leaves_the_statistics_at_their_start():
    variables = BatchNorm(affine=True).init(jax.random.key(0), images(), train=True)
    expected = {"mean": jnp.zeros(5), "var": jnp.ones(5)}
    chex.assert_trees_all_equal(variables["batch_stats"], expected)


def test_immutable_statistics_give_the_same_output():
    x = images()
    variables = variables_for(x)
    frozen = BatchNorm(affine=True).apply(variables, x, train=True)
    chex.assert_trees_all_equal(frozen, train(variables, x)[0])


@pytest.mark.parametrize("fill", [7.0, np.nan, np.inf])
def test_masked_equals_subset(fill):
    """Values, statistics and all gradients, whatever the masked rows hold."""
    x = images()
    x = jnp.where(MASK[:, None, None, None], x, fill)
    variables = variables_for(x)
    weights = jax.random.normal(jax.random.key(5), x.shape)

    def loss(params, x, mask, weights):
        y, new = train({**variables, "params": params}, x, mask)
        return jnp.sum(jnp.sin(y) * weights), (y, new)

    grad = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    (dp, dx), (y, new) = grad(variables["params"], x, MASK, weights)
    few = (variables["params"], x[MASK], None, weights[MASK])
    (dp_few, dx_few), (y_few, new_few) = grad(*few)
    close = {"rtol": 2e-5, "atol": 2e-5}
    chex.assert_trees_all_close(y[MASK], y_few, **close)
    chex.assert_trees_all_close(dx[MASK], dx_few, **close)
    chex.assert_trees_all_close(dp, dp_few, **close)
    chex.assert_trees_all_close(new, new_few, **close)
    chex.assert_trees_all_equal(dx[~MASK], jnp.zeros_like(dx[~MASK]))
    chex.assert_trees_all_equal(y[~MASK], jnp.zeros_like(y[~MASK]))


def test_masked_rows_never_change_a_bit():
    x, other = images(0), images(1)
    rows = MASK[:, None, None, None]
    variables = variables_for(x)
    first = train(variables, jnp.where(rows, x, other), MASK)
    second = train(variables, jnp.where(rows, x, -100.0), MASK)
    chex.assert_trees_all_equal(first, second)


def test_full_mask_equals_no_mask():
    x = images()
    variables = variables_for(x)
    chex.assert_trees_all_close(
        train(variables, x, np.ones(6, bool)), train(variables, x), rtol=1e-6, atol=1e-6
    )


def test_no_row_at_all_is_finite_and_moves_nothing():
    x = images().at[0].set(jnp.nan)
    variables = variables_for(x)

    def loss(params, x):
        y, new = train({**variables, "params": params}, x, np.zeros(6, bool))
        return jnp.sum(y), (y, new)

    grads, (y, new) = jax.grad(loss, argnums=(0, 1), has_aux=True)(
        variables["params"], x
    )
    chex.assert_tree_all_finite((grads, y))
    chex.assert_trees_all_equal(new["batch_stats"], variables["batch_stats"])


@pytest.mark.parametrize("mask", [None, np.array([True])])
def test_one_value_has_no_variance_and_moves_nothing(mask):
    x = jnp.full((1, 5), 3.0)
    variables = variables_for(x)
    y, new = train(variables, x, mask)
    chex.assert_tree_all_finite((y, new))
    chex.assert_trees_all_equal(new["batch_stats"], variables["batch_stats"])


def test_bfloat16_input_keeps_float32_statistics():
    x = images(dtype=jnp.bfloat16)
    variables = variables_for(x)
    y, new = train(variables, x)
    chex.assert_type(y, jnp.bfloat16)
    chex.assert_type(jax.tree.leaves((variables, new)), jnp.float32)
    # The statistics are those of the rounded input, accumulated without more rounding.
    expected, running = oracle(variables, x.astype(jnp.float32))
    chex.assert_trees_all_close(new["batch_stats"], running, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(y.astype(jnp.float32), expected, atol=0.03)


def test_zero_scale_init():
    variables = BatchNorm(affine=True, scale_init=nn.initializers.zeros).init(
        jax.random.key(0), images(), train=False
    )
    chex.assert_trees_all_equal(variables["params"]["scale"], jnp.zeros(5))


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ocssl_jax.backbones.norm import BatchNorm

assert len(jax.devices()) == 2
layer = BatchNorm(affine=True)
x = jnp.arange(24.0).reshape(4, 3, 2) ** 2
mask = jnp.array([True, True, False, True])
variables = layer.init(jax.random.key(0), x, train=False)
run = lambda x, mask: layer.apply(
    variables, x, train=True, mask=mask, mutable=["batch_stats"]
)
mesh = Mesh(np.array(jax.devices()), ("data",))
parts = jax.device_put((x, mask), NamedSharding(mesh, PartitionSpec("data")))
close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
jax.tree.map(close, jax.jit(run)(*parts), run(x, mask))
"""


def test_statistics_are_global_when_the_batch_is_sharded():
    """On two devices, which only a fresh process can have."""
    flags = {
        "XLA_FLAGS": xla_flags(2),
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", SHARDED],
        env=os.environ | flags,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_visible_checks_its_mask():
    with pytest.raises(AssertionError):
        visible(jnp.ones((3, 2)), jnp.ones(2, bool))


def test_training_keeps_two_arrays_a_layer():
    """A convolution's result and what follows it; a third would be 50 % more memory."""
    layers, x = 8, jnp.zeros((64, 16, 16, 16))
    norm = BatchNorm(affine=True)
    variables = norm.init(jax.random.key(0), x, train=False)

    def loss(kernels, x):
        for kernel in kernels:
            x = conv(x, kernel, strides=(1, 1), padding=((1, 1), (1, 1)))
            y, _ = norm.apply(variables, x, train=True, mutable=["batch_stats"])
            x = nn.relu(y)
        return jnp.sum(x * x)

    kernels = jnp.zeros((layers, 3, 3, 16, 16))
    compiled = jit(jax.grad(loss)).lower(kernels, x).compile()
    arrays = compiled.memory_analysis().temp_size_in_bytes / x.nbytes
    assert arrays < 2 * layers + 5
