"""Generative replay for classifiers: a generator stands in for a memory of images.

x <- stream(b);   y <- m b images of the generator as it was when the last experience
ended, with the class probabilities p that the classifier gave them then
passes times:   classifier <- its optimizer on  CE(x) + weight * CE(y, p)
                generator  <- Adam on           L(x)  + weight * L(y'),  y' as y

Each has replay of its own, made once a stream batch, and none in the first experience.
What is made is up to a `Seek`. Generator and Adam's moments are strategy state.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ocssl_jax.core import (
    Array,
    Augment,
    Batch,
    Key,
    Learner,
    Model,
    Outputs,
    Params,
    Stream,
)
from ocssl_jax.generator import Generator, elbo, make_vae
from ocssl_jax.losses import masked_mean
from ocssl_jax.strategies.base import Strategy
from ocssl_jax.strategies.past import joined

LEAST_PROBABILITY = 1e-5  # below it a predicted probability has no gradient


class Before(NamedTuple):
    """Copies made when the last experience ended."""

    generator: Params
    params: Params  # of the classifier
    model: Model


class Replay(NamedTuple):
    """What is replayed with the present stream batch, r = m b rows each."""

    image: Array  # [r h w c] uint8, for the classifier
    target: Array  # [r k] float32, class probabilities
    generator_image: Array  # [r h w c] uint8
    lost: Array  # [] float32, how many of the two searches were given up


class Generative(NamedTuple):
    """State of the strategies that replay what a generator makes."""

    task: Array  # [] int32, the present experience; -1 before the first
    seen: Array  # [] float32, images of the present experience so far
    generator: Params
    adam: Any
    loss: Array  # [] float32, the generator's in the last update
    before: Before
    replay: Replay
    last: Any = ()  # what the last update did, where a `Seek` asks for it


class Settings(NamedTuple):
    """What a `Seek` is told of the generator, beside the state."""

    generator: Generator
    beta: Array  # [] float32, weight of the divergence


# (key, state, settings, learner, stream, prior latents [2 m b z]) -> [2 m b z] latents
# of the classifier's and of the generator's replay, and Replay.lost
Seek = Callable[..., tuple[Array, Array]]


def any_latents(
    key: Key,
    state: Generative,
    settings: Settings,
    learner: Learner,
    stream: Stream,
    prior: Array,
) -> tuple[Array, Array]:
    """Replay at random."""
    del key, state, settings, learner, stream
    return prior, jnp.float32(0)


def generative(
    *,
    replay_batches: int,
    replay_weight: float,
    generator: Mapping[str, Any],
    seek: Seek,
    remembers_update: bool,
) -> Strategy:
    """Train on the stream's rows and on those of a generator.

    Args:
      replay_batches: rows replayed, in stream batches, m.
      replay_weight: of the losses over them.
      generator: `Vae`'s settings; Adam's `learning_rate`; `max_beta` and `warmup`,
        the divergence's weight is images seen / warmup in each experience, at most
        max_beta.
      seek: which latents are decoded.
      remembers_update: keep `Generative.last`.
    """
    sizes = {x: generator[x] for x in ("hidden", "latent", "depth", "dropout")}
    vae_of = lambda shape: make_vae(shape, **sizes)
    adam = optax.adam(generator["learning_rate"])

    def settings_of(state: Generative, shape: tuple[int, ...]) -> Settings:
        rise = state.seen / max(generator["warmup"], 1)
        return Settings(vae_of(shape), jnp.minimum(rise, generator["max_beta"]))

    def init(key: Key, learner: Learner, stream: Stream) -> tuple[Any, Generative]:
        shape = stream.image.shape[1:]
        params = vae_of(shape).init(key)
        rows = replay_batches * len(stream.mask)
        classes = jax.eval_shape(learner.embed, stream.image[:1]).shape[1]
        images = jnp.zeros((rows, *shape), jnp.uint8)
        target = jnp.zeros((rows, classes))
        state = Generative(
            task=jnp.int32(-1),
            seen=jnp.float32(0),
            generator=params,
            adam=adam.init(params),
            loss=jnp.float32(0),
            before=copied(params, learner),
            replay=Replay(images, target, jnp.copy(images), jnp.float32(0)),
        )
        if not remembers_update:
            return (), state
        still = jax.tree.map(jnp.zeros_like, (learner.params, params))
        return (), state._replace(last=still)

    def begin(
        key: Key, state: Generative, learner: Learner, stream: Stream
    ) -> tuple[Generative, Model]:
        new = stream.boundary
        before = jax.tree.map(
            partial(jnp.where, new), copied(state.generator, learner), state.before
        )
        count = jnp.sum(stream.mask, dtype=jnp.float32)
        state = state._replace(
            task=(state.task + new).astype(jnp.int32),
            seen=jnp.where(new, 0.0, state.seen) + count,
            before=before,
        )
        # The first experience has none: it need not be looked for.
        replay = jax.lax.cond(
            state.task > 0,
            lambda: made(key, state, learner, stream),
            lambda: state.replay,
        )
        return state._replace(replay=replay), learner.model

    def made(key: Key, state: Generative, learner: Learner, stream: Stream) -> Replay:
        k_prior, k_seek = jax.random.split(key)
        settings = settings_of(state, stream.image.shape[1:])
        shape = (2, replay_batches, len(stream.mask), generator["latent"])
        prior = jax.random.normal(k_prior, shape)
        latents, lost = seek(k_seek, state, settings, learner, stream, prior)
        decode = partial(settings.generator.decode, state.before.generator)
        own, other = (to_pixels(decode(z.reshape(-1, z.shape[-1]))) for z in latents)
        then = dataclasses.replace(
            learner, params=state.before.params, model=state.before.model
        )
        return Replay(own, jax.nn.softmax(then.embed(own)), other, lost)

    def draw(
        key: Key, state: Generative, learner: Learner, stream: Stream, augment: Augment
    ) -> Batch:
        del learner
        k_old, k_new, k_generator = jax.random.split(key, 3)
        replay, rows = state.replay, len(state.replay.image)
        items = {"image": replay.image, "id": jnp.full(rows, -1, jnp.int32)}
        items["label"] = jnp.argmax(replay.target, axis=1).astype(jnp.int32)
        real = jnp.full(rows, state.task > 0)
        old = Batch(augment(k_old, replay.image), real, items)
        new = Batch(augment(k_new, stream.image), stream.mask, stream.items())
        return joined(old, new, apart=True, kept=k_generator)

    def loss(
        params: Any, state: Generative, learner: Learner, batch: Batch, out: Outputs
    ) -> dict[str, Array]:
        del params, learner
        rows = soft_cross_entropy(out.z[0, : batch.replayed], state.replay.target)
        return {"replay": replay_weight * masked_mean(rows, batch.replay_mask)}

    def update(
        state: Generative, learner: Learner, batch: Batch, out: Outputs
    ) -> Generative:
        del learner, out
        k_new, k_old = jax.random.split(batch.kept)
        image = from_pixels(batch.items["image"][batch.replayed :])
        real = batch.mask[batch.replayed :]
        vae, beta = settings_of(state, image.shape[1:])
        old = from_pixels(state.replay.generator_image)

        def objective(params: Params) -> Array:
            own = vae.losses(params, k_new, image, real)
            again = vae.losses(params, k_old, old, batch.replay_mask)
            return elbo(own, beta) + replay_weight * elbo(again, beta)

        value, slope = jax.value_and_grad(objective)(state.generator)
        step, moments = adam.update(slope, state.adam)
        params = optax.apply_updates(state.generator, step)
        state = state._replace(generator=params, adam=moments, loss=value)
        return (
            state._replace(last=(state.last[0], slope)) if remembers_update else state
        )

    def metrics(state: Generative) -> dict[str, Array]:
        return {
            "loss_generator": state.loss,
            "searches_lost": jnp.where(state.task > 0, state.replay.lost, 0.0),
        }

    return Strategy(
        init=init, begin=begin, draw=draw, loss=loss, update=update, metrics=metrics
    )


def copied(generator: Params, learner: Learner) -> Before:
    """Of both networks, true copies: leaves of a donated state share no buffer."""
    parts = Before(generator, learner.params, learner.model)
    return jax.tree.map(jnp.copy, parts)


def to_pixels(x: Array) -> Array:
    """Images in [0, 1] as those of the stream are, uint8."""
    return jnp.round(255 * x).astype(jnp.uint8)


def from_pixels(image: Array) -> Array:
    """Uint8 images as the generator's, in [0, 1]."""
    return image.astype(jnp.float32) / 255.0


def soft_cross_entropy(logits: Array, target: Array) -> Array:
    """Cross entropy [n] of clipped softmax of `logits` [n k] with probabilities."""
    p = jnp.clip(jax.nn.softmax(logits), LEAST_PROBABILITY, 1.0)
    return -jnp.sum(target * jnp.log(p), axis=1)
