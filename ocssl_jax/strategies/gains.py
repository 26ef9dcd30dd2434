"""What GEN-MIR's searches are to find much of; see `gen_mir.py` for the formulas."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from ocssl_jax.core import Array, Batch, Key, Learner, Params, Prepare, Stream
from ocssl_jax.generator import Elbo
from ocssl_jax.latents import Gain
from ocssl_jax.strategies.generative import Generative, Settings

Weights = Mapping[str, float]


def classifier_gain(
    state: Generative,
    settings: Settings,
    learner: Learner,
    ahead: tuple[Params, Params],
    stream: Stream,
    weights: Weights,
) -> Gain:
    """What replay for the classifier is to have much of."""
    before, label = state.before, jnp.zeros(stream.mask.shape, jnp.int32)

    def gain(key: Key, z: Array) -> Array:
        x = settings.generator.decode(before.generator, z)
        views = shown(learner.prepare, x)
        batch = Batch(views[None], jnp.full(label.shape, True), {"label": label})
        p = _log_before(state, learner, views)
        out = learner.method.loss(ahead[0], learner.model, batch, key)
        then = jax.nn.log_softmax(out.z[0])
        return weights["interference"] * _mixed(p, then) - weights["entropy"] * _mixed(
            p, p
        )

    return gain


def generator_gain(
    state: Generative,
    settings: Settings,
    learner: Learner,
    ahead: tuple[Params, Params],
    stream: Stream,
    weights: Weights,
) -> Gain:
    """What replay for the generator is to have much of."""
    real = jnp.full(stream.mask.shape, True)

    def gain(key: Key, z: Array) -> Array:
        x = settings.generator.decode(state.before.generator, z)
        p = _log_before(state, learner, shown(learner.prepare, x))
        k_then, k_now = jax.random.split(key)
        losses = settings.generator.losses
        then = losses(ahead[1], k_then, x, real)
        now = losses(state.before.generator, k_now, x, real, train=False)
        risen = Elbo(*(a - b for a, b in zip(then, now, strict=True)))
        return (
            weights["kl"] * risen.divergence
            + weights["reconstruction"] * risen.reconstruction
            - weights["entropy"] * _mixed(p, p)
        )

    return gain


def shown(prepare: Prepare, x: Array) -> Array:
    """Images [n h w c] in [0, 1] as the classifier sees them, differentiable."""
    ends = jnp.array([0, 255], jnp.uint8).reshape(2, 1, 1, 1)
    black, white = jnp.split(prepare(jnp.broadcast_to(ends, (2, *x.shape[1:]))), 2)
    return black + x * (white - black)


def _log_before(state: Generative, learner: Learner, views: Array) -> Array:
    """Log-probabilities [n k] of the last experience's classifier."""
    before = state.before
    z = learner.method.forward(before.params, before.model, views, train=False).z
    return jax.nn.log_softmax(z)


def crossed(p: Array, q: Array) -> Array:
    """Cross entropy [n] of log-probabilities [n k]."""
    return -jnp.sum(jnp.exp(p) * q, axis=1)


def _mixed(p: Array, q: Array) -> Array:
    """Mean cross entropy [] of log-probabilities [n k]."""
    return jnp.mean(crossed(p, q))
