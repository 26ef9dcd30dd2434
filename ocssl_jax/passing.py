"""What a stream batch leaves behind that is not trained on.

A stream may begin with experiences that were learnt in another run (`stream.known`).
They pass by once: strategies begin and end each batch as ever, so that memories fill
and teachers are told of boundaries, and there are no passes in between.
"""

import dataclasses

import jax
import jax.numpy as jnp

from ocssl_jax.core import Learner, Method, Outputs, Prepare, Stream, TrainState
from ocssl_jax.step import Metrics, Step
from ocssl_jax.strategies.base import Strategy


def make_passing(method: Method, strategy: Strategy, *, prepare: Prepare) -> Step:
    """`passing(state, stream) -> state, {}`, a step of `make_step` without passes.

    What strategies would know of the last pass is here what the learner makes of the
    raw rows, with running BN statistics.
    """

    def passing(state: TrainState, stream: Stream) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        k_begin, _, k_end = jax.random.split(key, 3)
        params = state.params["method"]
        learner = Learner(params, state.model, method, prepare)
        kept, model = strategy.begin(k_begin, state.strategy, learner, stream)
        learner = Learner(params, model, method, prepare)
        seen = learner.encode(stream.image)
        loss = jnp.zeros(stream.mask.shape)
        out = Outputs(loss, seen.e[None], seen.z[None], ())
        kept, model = strategy.end(k_end, kept, learner, stream, out)
        if method.meet and stream.pool is not None:
            model = method.meet(model, stream.pool)
        step = state.step + 1
        return dataclasses.replace(state, strategy=kept, model=model, step=step), {}

    return passing
