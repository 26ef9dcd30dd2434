"""Counts of operations: closed forms, and what RALS costs beside a plain step."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from configs import small_cifar100
from ocssl_jax import dotted, flops, settings
from ocssl_jax.backbones.conv import conv
from ocssl_jax.core import Stream
from ocssl_jax.learning import make_learning

X, Y = jnp.zeros((3, 5)), jnp.zeros((5, 7))
IMAGES, KERNEL = jnp.zeros((2, 8, 8, 3)), jnp.zeros((3, 3, 3, 4))
PRODUCT = 2 * 3 * 5 * 7


def same(x, k, stride=1):
    return conv(x, k, strides=(stride, stride), padding=((1, 1), (1, 1)))


def test_products_count_two_operations_a_multiplication():
    assert flops.count(jnp.matmul, X, Y) == PRODUCT
    batched = flops.count(jax.vmap(jnp.matmul), X[None], Y[None])
    assert batched == PRODUCT


def test_convolutions_count_window_and_channels():
    assert flops.count(same, IMAGES, KERNEL) == 2 * (2 * 8 * 8 * 4) * (3 * 3 * 3)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_gradient_costs_two_forward_passes(stride):
    """One for the images and one for the kernel, strided or not; borders aside."""
    loss = lambda x, k: jnp.sum(same(x, k, stride) ** 2)
    forward = flops.count(loss, IMAGES, KERNEL)
    both = flops.count(jax.grad(loss, argnums=(0, 1)), IMAGES, KERNEL)
    assert both == pytest.approx(3 * forward, rel=0.15)


def test_loops_count_as_often_as_they_run_and_branches_once():
    def loop(x):
        return lax.scan(lambda c, _: (c @ Y @ Y.T, None), x, length=10)[0]

    assert flops.count(loop, X) == 10 * 2 * PRODUCT

    def branch(x):
        return lax.cond(x[0, 0] > 0, lambda x: x @ Y @ Y.T, lambda x: x, x)

    assert flops.count(jax.jit(branch), X) == 2 * PRODUCT


def step_of(name, **fields):
    """Operations of a stream batch of the small CIFAR-100 config, memory and stream
    rows as 2 to 1."""
    config = small_cifar100.get_config(name)
    config.stream.batch_size, config.passes = 16, 2
    for field, value in fields.items():
        dotted.put(config, field.replace("__", "."), value)
    config = settings.resolve(config, {})
    made = make_learning(config, shape=(32, 32, 3), mean=(0.5,) * 3, std=(0.3,) * 3)
    b, struct = config.stream.batch_size, jax.ShapeDtypeStruct
    stream = Stream(
        struct((b, 32, 32, 3), jnp.uint8),
        struct((b,), jnp.int32),
        struct((b,), bool),
        struct((), bool),
    )
    state = jax.eval_shape(made.init, jax.random.key(0), stream)
    return flops.count(made.step, state, stream)


def test_a_rals_step_costs_what_the_model_says():
    """In forward passes of an image: 6 k to train on k rows, 4 P to judge P, of which
    k is two thirds: twice a plain step on k rows, 4/3 of one on all of the pool."""
    rals = step_of("rals", strategy__replay_size=32)
    plain = step_of("er", strategy__replay_size=16)
    whole = step_of("er", strategy__replay_size=32)
    random = step_of("rals", strategy__replay_size=32, strategy__rals__choice="random")
    assert rals / plain == pytest.approx(2.0, rel=0.05)
    assert rals / whole == pytest.approx(4 / 3, rel=0.05)
    assert random / plain == pytest.approx(1.0, rel=0.05)
