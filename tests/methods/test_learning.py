"""Each method learns a toy: noisy views of two dozen pictures, each a bright spot.

Measured with these seeds: the loss falls by 1.1 (SimCLR), 0.9 (SimSiam), 3.4 (BYOL),
0.34 (Barlow Twins) and 31 (VICReg); the views of 62 to 83 % of the pictures find each
other afterwards, 8 to 25 % before, 4 % by chance.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow_but
from tiny import tiny_learning

from ocssl_jax.core import Stream
from ocssl_jax.losses import unit
from ocssl_jax.optim import make_optimizer
from ocssl_jax.schedules import constant
from ocssl_jax.step import make_step
from ocssl_jax.strategies import Strategy

PICTURES, BATCHES = 24, 150
FALL = {
    "simclr": 0.7,
    "simsiam": 0.6,
    "byol": 2.0,
    "barlow_twins": 0.2,
    "vicreg": 20.0,
}


def spots():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:8, :8]
    centre, width = rng.uniform(1, 6, (PICTURES, 2, 1, 1)), rng.uniform(1, 3, PICTURES)
    far = (y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2
    image = np.exp(-far / width[:, None, None] ** 2)
    return jnp.asarray((255 * image[..., None]).astype(np.uint8))


@pytest.mark.parametrize("name", slow_but(["simclr"], FALL))
def test_loss_falls_and_views_of_a_picture_find_each_other(name):
    learning = tiny_learning(method__name=name)
    method = learning.method

    def noisy(key, images):
        x = learning.prepare(images)[None]
        return x + 0.5 * jax.random.normal(key, (2, *images.shape))

    def found(state):
        x = noisy(jax.random.key(99), stream.image).reshape(-1, *stream.image.shape[1:])
        z = method.forward(state.params["method"], state.model, x, train=True).z
        z1, z2 = jnp.split(unit(z), 2)
        return jnp.mean(jnp.argmax(z1 @ z2.T, axis=1) == jnp.arange(PICTURES))

    schedule = constant(1, peak=0.003, momentum=0.9)
    init, step = make_step(
        method,
        Strategy(),
        make_optimizer(
            "adam", schedule=schedule, momentum_reset=False, weight_decay=1e-4
        ),
        augment=noisy,
        prepare=learning.prepare,
        passes=1,
    )
    stream = Stream(
        image=spots(),
        id=jnp.arange(PICTURES),
        mask=jnp.ones(PICTURES, bool),
        boundary=jnp.asarray(False),
    )
    init, step, found = jax.jit(init), jax.jit(step, donate_argnums=0), jax.jit(found)
    state, losses = init(jax.random.key(0), stream), []
    before = float(found(state))
    for _ in range(BATCHES):
        state, metrics = step(state, stream)
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[:3]) - np.mean(losses[-10:]) > FALL[name]
    assert before < 0.3 and float(found(state)) > 0.5
