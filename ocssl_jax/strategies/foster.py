"""FOSTER (Wang et al. 2022): boost the old network by a new one, compress both to one.

x <- stream(b), of a pool of the present task and a memory (`stream.memory`)
when a task has ended:  old <- the learner, held constant; the learner goes on from it
boosting, the first epochs of a task, with logits s = old(x) + learner(x):
  L = CE(learner(x)) + CE((s - mean of s) / w) + weight * CE(old(x) / T -> s / T)
                                                          among the classes of before
compressing, the others:  new <- the learner as boosting has left it
                          s = old(x) + new(x)
  L = CE(w' softmax(s / T), made to sum to 1 -> learner(x) / T)

w and w' are the classes' effective-number weights (1 - beta) / (1 - beta^n), mean 1,
for n images in the pool, of two betas: a class of few images has a large one. CE(p ->
q) is the cross entropy of the softmaxes. In the first task L = CE(learner(x))
throughout.

Where classes are words, every network has logits of those to come, and old(x) is not
filled up with zeros for new classes, as it is in the paper; cosines are no logits about
0 either, so their mean over classes is taken off before they are scaled.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

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
from ocssl_jax.losses import cross_entropy, masked_mean
from ocssl_jax.strategies.base import Strategy, stream_only
from ocssl_jax.strategies.herding import NEVER

PARTS = ("encoder", "projector")  # what has statistics


class Network(NamedTuple):
    """A constant classifier."""

    params: Params  # the method's
    model: Model


class Boosted(NamedTuple):
    """State of FOSTER."""

    old: Network  # as the last task left the learner
    new: Network  # as boosting did, while compressing
    known: Array  # [k] bool, classes of earlier tasks
    met: Array  # [k] bool, these and the present one's
    compressing: Array  # [] bool

    @property
    def later(self) -> Array:
        """[] bool, whether the first task has ended."""
        return jnp.any(self.known)


def foster(
    *,
    epochs: int,
    boosting: int,
    distill_weight: float,
    temperature: float,
    beta: float,
    student_beta: float,
) -> Strategy:
    """FOSTER for methods with a pool, whose loss is a classifier's.

    Args:
      epochs: of a task.
      boosting: of these, the first ones that boost; the others compress.
      distill_weight: of the distillation while boosting.
      temperature: T.
      beta: in [0, 1), of the effective numbers while boosting.
      student_beta: the same while compressing.

    Raises:
      ValueError: if an argument is out of range.
    """
    if not 1 <= boosting < epochs:
        raise ValueError(
            f"boosting must be at least 1 and below stream.epochs {epochs}, got "
            f"{boosting}"
        )
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    if not (0 <= beta < 1 and 0 <= student_beta < 1):
        raise ValueError(
            f"beta and student_beta must lie in [0, 1), got {beta} and {student_beta}"
        )

    def init(key: Key, learner: Learner, stream: Stream) -> tuple[Any, Boosted]:
        del key
        assert stream.pool is not None
        # True copies: the state is donated, and no two leaves must share one buffer.
        copy = lambda: jax.tree.map(jnp.copy, network_of(learner))
        nobody = lambda: jnp.zeros(len(stream.pool), bool)
        return (), Boosted(copy(), copy(), nobody(), nobody(), jnp.zeros((), bool))

    def begin(
        key: Key, state: Boosted, learner: Learner, stream: Stream
    ) -> tuple[Boosted, Model]:
        del key
        assert stream.pool is not None
        now, turned = network_of(learner), stream.boundary
        known = jnp.where(turned, state.met, state.known)
        epoch = jnp.int32(0) if stream.epoch is None else stream.epoch
        compressing = jnp.any(known) & (epoch >= boosting)
        starts = compressing & (turned | ~state.compressing)
        state = Boosted(
            old=chosen(turned, now, state.old),
            new=chosen(starts, now, state.new),
            known=known,
            met=state.met | (stream.pool > 0),
            compressing=compressing,
        )
        return state, learner.model

    def draw(
        key: Key, state: Boosted, learner: Learner, stream: Stream, augment: Augment
    ) -> Batch:
        batch = stream_only(key, state, learner, stream, augment)
        own = jnp.broadcast_to(~state.compressing, batch.mask.shape)
        return dataclasses.replace(batch, objective=own)

    def loss(
        params: Any, state: Boosted, learner: Learner, batch: Batch, out: Outputs
    ) -> dict[str, Array]:
        del params
        now = said(learner, learner.params, out.z[0])
        old = logits_of(state.old, learner, batch, like=now, wanted=state.later)
        new = logits_of(state.new, learner, batch, like=now, wanted=state.compressing)
        boost = boosted(old + now, state.met, batch, beta=beta)
        hard = lambda x, among: jnp.where(among[None], x, NEVER) / temperature
        keep = distilled(
            jax.nn.softmax(hard(old, state.known)), hard(old + now, state.known)
        )
        soft = jax.nn.softmax(hard(old + new, state.met))
        soft = soft * effective(batch.pool, state.met, student_beta)[None]
        soft = soft / jnp.sum(soft, axis=1, keepdims=True)
        squeeze = distilled(soft, hard(now, state.met))
        boosts = batch.mask & state.later & ~state.compressing
        return {
            "boost": masked_mean(boost, boosts),
            "distill": distill_weight * masked_mean(keep, boosts),
            "compress": masked_mean(squeeze, batch.mask & state.compressing),
        }

    return Strategy(init=init, begin=begin, draw=draw, loss=loss)


def network_of(learner: Learner) -> Network:
    """The learner's network."""
    return Network(learner.params, {part: learner.model[part] for part in PARTS})


def chosen(wanted: Array, one: Network, other: Network) -> Network:
    """`one` where it is `wanted` [], else `other`."""
    return jax.tree.map(lambda a, b: jnp.where(wanted, a, b), one, other)


def said(learner: Learner, params: Params, z: Array) -> Array:
    """Logits [n k] of projections [n d] by a network with `params`."""
    logits: Any = learner.method.logits
    scores: Array = logits(params, z)
    return scores


def logits_of(
    network: Network, learner: Learner, batch: Batch, *, like: Array, wanted: Array
) -> Array:
    """Logits [n k] of a constant network, running statistics; 0 where not `wanted`."""

    def looked() -> Array:
        seen = learner.method.forward(
            network.params, network.model, batch.views[0], train=False
        )
        return said(learner, network.params, seen.z)

    nothing = lambda: jnp.zeros_like(like)
    return jax.lax.stop_gradient(jax.lax.cond(wanted, looked, nothing))


def effective(pool: Array | None, met: Array, beta: float) -> Array:
    """Weights [k] of classes by their effective numbers (Cui et al. 2019).

    Args:
      pool: [k] images of each class; one without any counts as one of a single image.
      met: [k] bool, the classes over which the mean is 1.
      beta: in [0, 1).
    """
    assert pool is not None
    count = jnp.maximum(pool, 1.0)
    # 1 - beta^n by expm1: in float32 it is 0 for a beta near 1.
    weight = (1 - beta) / (-jnp.expm1(count * math.log(beta)) if beta else 1.0)
    weight = jnp.broadcast_to(weight, count.shape)
    return weight / masked_mean(weight, met)


def boosted(logits: Array, met: Array, batch: Batch, *, beta: float) -> Array:
    """Cross entropy [n] of logits [n k] aligned among the classes met [k]."""
    count = jnp.maximum(jnp.sum(met), 1)
    mean = jnp.sum(jnp.where(met[None], logits, 0.0), axis=1, keepdims=True) / count
    aligned = (logits - mean) / effective(batch.pool, met, beta)[None]
    aligned = jnp.where(met[None], aligned, NEVER)
    return cross_entropy(aligned, batch.items["label"], batch.mask)


def distilled(target: Array, logits: Array) -> Array:
    """Cross entropy [n] of probabilities and the softmax of logits, both [n k]."""
    log_p = jax.nn.log_softmax(logits, axis=1)
    return -jnp.sum(jnp.where(target > 0, target * log_p, 0.0), axis=1)
