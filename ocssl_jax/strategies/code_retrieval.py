"""Two ways to find stored codes that the stream's batch is about to spoil.

by_search  those nearest to codes that gradient ascent finds, from the batch's own codes
by_score   those of the highest rise of their loss

`ae_mir.py` has the formulas.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ocssl_jax import retrieval
from ocssl_jax.autoencoder import signed, to_pixels
from ocssl_jax.core import Array, Batch, Key, Learner, Params, Sample, Stream
from ocssl_jax.latents import Gain, finite_or, search
from ocssl_jax.strategies.coding import Coding
from ocssl_jax.strategies.gains import crossed, shown
from ocssl_jax.strategies.hybrid import Chosen, Hybrid
from ocssl_jax.strategies.nearest import nearest


class Asked(NamedTuple):
    """What a retrieval is told."""

    state: Hybrid
    coding: Coding
    learner: Learner
    ahead: Params  # the classifier after the virtual step
    stream: Stream
    pool: Sample  # the candidates, codes of earlier experiences


def by_score(key: Key, asked: Asked, *, count: int) -> Chosen:
    """The `count` candidates whose loss rises most, each once."""
    state, coding, learner, ahead, _, pool = asked
    x = coding.decode(state.coder.settled, pool.items["code"], pool.mask)
    batch = Batch(learner.prepare(to_pixels(x))[None], pool.mask, pool.items)
    now, then = (
        retrieval.unit_losses(
            learner.method, w, learner.model, batch, key, part=1, train=True
        )
        for w in (learner.params, ahead)
    )
    scores, _ = retrieval.rise(now, then, pool.mask)
    return _taken(pool, retrieval.highest(scores, count))


def by_search(
    key: Key,
    asked: Asked,
    *,
    count: int,
    steps: int,
    step_size: float,
    gain: Mapping[str, float],
    distinct: bool,
) -> Chosen:
    """The candidates nearest to what a search finds; arguments as `ae_mir` has them."""
    state, pool, mask = asked.state, asked.pool, asked.stream.mask
    x = signed(asked.stream.image)
    start = asked.coding.encode(state.coder.settled, x, mask)[None]
    found = search(
        key,
        interference(asked, gain, scale=step_size),
        start,
        steps=steps,
        diversity=0.0,
        shell=0.0,
        fresh_noise=False,
    )
    found, lost = finite_or(start, found)
    place, real = nearest(
        found[0],
        mask,
        pool.items["code"],
        pool.mask,
        count=count,
        distinct=distinct,
    )
    chosen = _taken(pool, place)
    return Chosen(chosen.items, chosen.mask & real, {"searches_lost": lost})


def interference(asked: Asked, weights: Mapping[str, float], *, scale: float) -> Gain:
    """What the search climbs, as a function of codes [b z], times `scale`."""
    state, coding, learner, ahead, stream, _ = asked
    before, model = state.before

    def classified(params: Params, model: Any, views: Array) -> Array:
        seen = learner.method.forward(
            params, model, views, train=True, mask=stream.mask
        )
        return jax.nn.log_softmax(seen.z)

    def gain(key: Key, code: Array) -> Array:
        del key
        x = coding.decode(state.coder.settled, code, stream.mask)
        views = shown(learner.prepare, (x + 1.0) / 2.0)
        p = classified(before, model, views)
        then = classified(ahead, learner.model, views)
        rows = (
            weights["interference"] * (crossed(p, then) - crossed(p, p))
            - weights["entropy"] * crossed(p, p)
            - weights["entropy_ahead"] * crossed(then, then)
        )
        return scale * jnp.sum(jnp.where(stream.mask, rows, 0.0))

    return gain


def _taken(pool: Sample, place: Array) -> Chosen:
    """The candidates at some places [r]."""
    items, mask = jax.tree.map(lambda x: x[place], (pool.items, pool.mask))
    return Chosen(items, mask, {})
