"""A small hybrid, stepped through experiences of two epochs."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from tiny import BATCH, SHAPE, bits, stream, tiny_learning

from ocssl_jax.autoencoder import make_autoencoder
from ocssl_jax.core import Learner

RATE, ADAM_RATE, EPOCHS, WIDTH = 0.5, 0.01, 2, 8
STEPS = 2  # stream batches of an epoch here
R = STEPS * BATCH  # replayed rows: in the second experience all that there are
PLAIN = {
    "method__name": "supervised",
    "augment__name": "none",
    "passes": 1,
    "optimizer__momentum": 0.0,
    "optimizer__weight_decay": 0.0,
    "optimizer__learning_rate": RATE,
    "stream__epochs": EPOCHS,
    "strategy__replay_size": R,
}
ALWAYS = ("learns_on", "replays", "settles_each_epoch", "batch_statistics")


@cache
def made(name="ae", **fields):
    own = {
        f"strategy__{name}__autoencoder__learns_on": False,
        f"strategy__{name}__autoencoder__learning_rate": ADAM_RATE,
        f"strategy__{name}__autoencoder__width": WIDTH,
    }
    return tiny_learning(strategy__name=name, **{**PLAIN, **own, **fields})


@cache
def released(name="ae", **fields):
    """As the released code has it."""
    own = {f"strategy__{name}__autoencoder__{field}": True for field in ALWAYS}
    own |= {f"strategy__{name}__raw_first": True, f"strategy__{name}__strength": 0.5}
    return made(name, **own, **fields)


def slopes_of_grey(batch, rng):
    """Images that an autoencoder can learn something about, in place of noise."""
    level, across, down = rng.uniform((60, -8, -8), (195, 8, 8), (BATCH, 3)).T
    place = np.arange(SHAPE[0]) - SHAPE[0] / 2
    grey = level[:, None, None] + across[:, None, None] * place[None, :, None]
    grey = grey + down[:, None, None] * place[None, None, :]
    image = (grey + rng.normal(scale=6, size=grey.shape)).clip(0, 255)
    return batch._replace(image=jnp.asarray(image[..., None].astype(np.uint8)))


@cache
def batches(count=20):
    """Experiences of two epochs of two batches each, the same images in both."""
    rng = np.random.default_rng(5)
    plain = stream(count // EPOCHS, short=False, labelled=True)
    images = [slopes_of_grey(batch, rng) for batch in plain]
    found = []
    for task in range(count // (EPOCHS * STEPS)):
        own = images[task * STEPS : (task + 1) * STEPS]
        for epoch in range(EPOCHS):
            for i, batch in enumerate(own):
                start = jnp.asarray(epoch == 0 and i == 0)
                label = 2 * task + jnp.arange(BATCH, dtype=jnp.int32) % 2
                batch = batch._replace(boundary=start, label=label)
                found.append(batch._replace(epoch=jnp.int32(epoch)))
    return found


@cache
def stepper(learning):
    return jax.jit(learning.step)


@cache
def states(learning):
    """Before each of the batches, and after the last; metrics of each."""
    found, seen = [learning.init(jax.random.key(0), batches()[0])], []
    for batch in batches():
        state, metrics = stepper(learning)(found[-1], batch)
        found.append(state)
        seen.append(metrics)
    return found, seen


def learner_of(learning, state):
    return Learner(
        state.params["method"], state.model, learning.method, learning.prepare
    )


@cache
def drawer(learning):
    augment = lambda key, image: learning.prepare(image)[None]

    def draw(state, batch, key):
        learner, s = learner_of(learning, state), learning.strategy
        kept, _ = s.begin(jax.random.key(9), state.strategy, learner, batch)
        return s.draw(key, kept, learner, batch, augment), kept

    return jax.jit(draw)


def drawn(learning, state, batch, key=3):
    """The batch of a pass, as `draw` makes it, and the strategy's state before it."""
    return drawer(learning)(state, batch, jax.random.key(key))


@cache
def half(name, train=False):
    network = make_autoencoder(SHAPE, width=WIDTH)
    return jax.jit(partial(getattr(network, name), train=train))


encode, decode = partial(half, "encode"), partial(half, "decode")


def far(a, b):
    return max(np.abs(x - y).max() for x, y in zip(bits(a), bits(b), strict=True))


def held(state):
    """Of the memory's real rows: codes by image id."""
    items, rank = state.memory.items, np.asarray(state.memory.rank)
    real = np.isfinite(rank)
    ids, codes = np.asarray(items["id"])[real], np.asarray(items["code"])[real]
    return dict(zip(ids.tolist(), codes, strict=True))


def image_of():
    """Images by id."""
    return {
        int(i): x
        for batch in batches()
        for i, x in zip(batch.id, np.asarray(batch.image), strict=True)
    }


def pairs(batch):
    """Ids and labels."""
    return zip(batch.id, batch.label, strict=True)
