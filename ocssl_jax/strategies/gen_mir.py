"""GEN-MIR: replay of what the stream's batch is about to spoil most, made up.

Maximally interfered retrieval from a generator, of Aljundi et al., "Online Continual
Learning with Maximally Interfered Retrieval" (NeurIPS 2019), as `generative.py` but for

x  <- stream(b);   w' <- w - rate * gradient of the loss of x, of both networks
y  <- the last experience's generator, of latents z that a search finds (`latents.py`)
      for the classifier   interference * CE(p, p') - entropy * H(p)
      for the generator    kl * (KL' - KL) + reconstruction * (rec' - rec)
                           - entropy * H(p)

p, p' are what the classifiers of the last experience and at w' make of an image, rec
and KL the two parts of a generator's loss. With CE = KL(p || p') + H(p) the first is
the text's gain. Both networks at w' drop units out.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ocssl_jax import retrieval
from ocssl_jax.core import Array, Batch, Key, Learner, Outputs, Params, Stream
from ocssl_jax.generator import elbo
from ocssl_jax.latents import Gain, finite_or, search
from ocssl_jax.strategies import gains
from ocssl_jax.strategies.base import Strategy
from ocssl_jax.strategies.gains import Weights
from ocssl_jax.strategies.generative import (
    Generative,
    Settings,
    from_pixels,
    generative,
)

SOUGHT = ("classifier", "generator")  # whose replay may be searched for


def gen_mir(
    *,
    replay_batches: int,
    replay_weight: float,
    generator: Mapping[str, Any],
    learning_rate: float,
    generator_rate: float,
    sought: tuple[str, ...],
    steps: int,
    classifier_gain: Weights,
    generator_gain: Weights,
    stale_step: bool,
    fresh_noise: bool,
) -> Strategy:
    """MIR from a generator.

    Args:
      replay_batches: as in `generative`.
      replay_weight: likewise.
      generator: likewise.
      learning_rate: of the classifier's virtual step, the optimizer's peak.
      generator_rate: of the generator's virtual step.
      sought: whose replay is searched for; the other's is random.
      steps: of the ascent.
      classifier_gain: weights `interference`, `entropy`, `diversity` and `shell`.
      generator_gain: weights `kl`, `reconstruction`, `entropy`, `diversity`, `shell`.
      stale_step: as in the released code the virtual step is along the last update's
        gradient, replay included, not along that of the stream's batch. The
        classifier's is its last update once more, which is the same under plain SGD.
      fresh_noise: dropout and latents of the gain are drawn anew in each step.

    Raises:
      ValueError: if something else than these is sought.
    """
    if not set(sought) <= set(SOUGHT):
        raise ValueError(f"sought must be of {', '.join(SOUGHT)}, got {sought!r}")
    ahead = partial(
        _repeated if stale_step else _along_stream,
        rate=learning_rate,
        generator_rate=generator_rate,
    )
    asked: dict[str, tuple[Callable[..., Gain], Weights]] = {
        "classifier": (gains.classifier_gain, classifier_gain),
        "generator": (gains.generator_gain, generator_gain),
    }

    def seek(
        key: Key,
        state: Generative,
        settings: Settings,
        learner: Learner,
        stream: Stream,
        prior: Array,
    ) -> tuple[Array, Array]:
        k_ahead, *keys = jax.random.split(key, 1 + len(SOUGHT))
        then = ahead(k_ahead, state, settings, learner, stream)
        found, lost = [], jnp.float32(0)
        for name, k, start in zip(SOUGHT, keys, prior, strict=True):
            if name not in sought:
                found.append(start)
                continue
            gain, weights = asked[name]
            latents = search(
                k,
                gain(state, settings, learner, then, stream, weights),
                start,
                steps=steps,
                diversity=weights["diversity"],
                shell=weights["shell"],
                fresh_noise=fresh_noise,
            )
            fresh = jax.random.normal(jax.random.fold_in(k, len(start)), start.shape)
            latents, failed = finite_or(fresh, latents)
            found.append(latents)
            lost += failed
        return jnp.stack(found), lost

    plain = generative(
        replay_batches=replay_batches,
        replay_weight=replay_weight,
        generator=generator,
        seek=seek,
        remembers_update=stale_step,
    )
    return _remembering(plain) if stale_step else plain


def _remembering(plain: Strategy) -> Strategy:
    """The strategy, its state told how each update moved the classifier."""

    def draw(key: Key, state: Generative, learner: Learner, *seen: Any) -> Batch:
        batch = plain.draw(key, state, learner, *seen)
        return dataclasses.replace(batch, kept=(batch.kept, learner.params))

    def update(
        state: Generative, learner: Learner, batch: Batch, out: Outputs
    ) -> Generative:
        key, params = batch.kept
        batch = dataclasses.replace(batch, kept=key)
        state = plain.update(state, learner, batch, out)
        moved = jax.tree.map(jnp.subtract, learner.params, params)
        return state._replace(last=(moved, state.last[1]))

    return plain._replace(draw=draw, update=update)


def _along_stream(
    key: Key,
    state: Generative,
    settings: Settings,
    learner: Learner,
    stream: Stream,
    *,
    rate: float,
    generator_rate: float,
) -> tuple[Params, Params]:
    """Both networks one step along the gradient of the stream's batch."""
    k_classifier, k_generator = jax.random.split(key)
    views = learner.prepare(stream.image)[None]
    params = retrieval.virtual_step(
        learner.method,
        learner.params,
        learner.model,
        Batch(views, stream.mask, stream.items()),
        k_classifier,
        rate=rate,
    )
    x = from_pixels(stream.image)

    def objective(w: Params) -> Array:
        parts = settings.generator.losses(w, k_generator, x, stream.mask)
        return elbo(parts, settings.beta)

    slope = jax.grad(objective)(state.generator)
    return params, _moved(state.generator, slope, generator_rate)


def _repeated(
    key: Key,
    state: Generative,
    settings: Settings,
    learner: Learner,
    stream: Stream,
    *,
    rate: float,
    generator_rate: float,
) -> tuple[Params, Params]:
    """Both networks one step along the gradient of their last update."""
    del key, settings, stream, rate
    moved, slope = state.last
    params = jax.tree.map(jnp.add, learner.params, moved)
    return params, _moved(state.generator, slope, generator_rate)


def _moved(params: Params, slope: Params, rate: float) -> Params:
    return jax.tree.map(lambda p, g: p - rate * g, params, slope)
