"""A stream batch cut into its parts, each a jitted call of its own.

`step.make_step` compiles all of it into one program. Here the same hooks run one after
the other, so that each can be timed; apart, they lose what XLA gains by fusing them.

begin     strategy.begin
draw      strategy.draw: sampling the memory, augmentation     each pass
gradient  both losses and their gradient                       each pass
descend   optimizer, method.update                             each pass
update    strategy.update                                      each pass
end       strategy.end: the stream batch enters the memory
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.learners import Subject
from ocssl_jax.core import Batch, Key, Learner, Outputs, Stream, TrainState
from ocssl_jax.losses import masked_mean
from ocssl_jax.step import weighted

NAMES = ("begin", "draw", "gradient", "descend", "update", "end")


class Parts(NamedTuple):
    """Jitted; those that return a state consume the one they are given."""

    begin: Callable[[Key, TrainState, Stream], TrainState]
    draw: Callable[[Key, TrainState, Stream], Batch]
    gradient: Callable[[Key, TrainState, Batch], tuple[Any, Outputs, Any]]
    descend: Callable[[TrainState, Any, Any, Any], TrainState]
    update: Callable[[TrainState, Batch, Outputs], TrainState]
    end: Callable[[Key, TrainState, Stream, Outputs], TrainState]


class Seen(NamedTuple):
    """What a stream batch came to."""

    state: TrainState
    losses: list[Any]  # of each pass, the terms by name
    seconds: dict[str, float]  # by part, summed over passes


def cut(subject: Subject) -> Parts:
    """The parts of the subject's step."""
    learning = subject.learning
    method, strategy = learning.method, learning.strategy

    def learner(params: Any, model: Any) -> Learner:
        return Learner(params["method"], model, method, learning.prepare)

    def begin(key: Key, state: TrainState, stream: Stream) -> TrainState:
        now = learner(state.params, state.model)
        kept, model = strategy.begin(key, state.strategy, now, stream)
        return dataclasses.replace(state, strategy=kept, model=model)

    def draw(key: Key, state: TrainState, stream: Stream) -> Batch:
        now = learner(state.params, state.model)
        return strategy.draw(key, state.strategy, now, stream, subject.augment)

    def gradient(
        key: Key, state: TrainState, batch: Batch
    ) -> tuple[Any, Outputs, dict[str, jax.Array]]:
        def objective(params: Any) -> Any:
            out = method.loss(params["method"], state.model, batch, key)
            now = learner(params, state.model)
            added = strategy.loss(params["strategy"], state.strategy, now, batch, out)
            terms = {"ssl": masked_mean(out.loss, batch.loss_mask)}
            terms |= {name: weighted(term) for name, term in added.items()}
            return sum(terms.values()), (out._replace(terms=added), terms)

        grads, (out, terms) = jax.grad(objective, has_aux=True)(state.params)
        return grads, out, terms

    def descend(state: TrainState, grads: Any, model: Any, i: Any) -> TrainState:
        params, opt_state = subject.optimizer.update(
            grads, state.opt_state, state.params, i
        )
        model = method.update(params["method"], model)
        return dataclasses.replace(
            state, params=params, opt_state=opt_state, model=model
        )

    def update(state: TrainState, batch: Batch, out: Outputs) -> TrainState:
        now = learner(state.params, state.model)
        kept = strategy.update(state.strategy, now, batch, out)
        return dataclasses.replace(state, strategy=kept)

    def end(key: Key, state: TrainState, stream: Stream, out: Outputs) -> TrainState:
        now = learner(state.params, state.model)
        kept, model = strategy.end(key, state.strategy, now, stream, out)
        step = state.step + 1
        return dataclasses.replace(state, strategy=kept, model=model, step=step)

    return Parts(
        jax.jit(begin, donate_argnums=1),
        jax.jit(draw),
        jax.jit(gradient),
        jax.jit(descend, donate_argnums=0),
        jax.jit(update, donate_argnums=0),
        jax.jit(end, donate_argnums=1),
    )


def unseen(batch: Batch, terms: Any) -> None:
    """Nobody watches."""
    del batch, terms


def walk(
    parts: Parts,
    state: TrainState,
    stream: Stream,
    passes: int,
    watch: Callable[[Batch, Any], None] = unseen,
) -> Seen:
    """One stream batch through the parts, with the keys that the step would use.

    `watch` is shown the batch and the terms of the loss of each pass.
    """
    seconds = dict.fromkeys(NAMES, 0.0)

    def clock(name: str, *args: Any) -> Any:
        start = time.perf_counter()
        result = jax.block_until_ready(getattr(parts, name)(*args))
        seconds[name] += time.perf_counter() - start
        return result

    key = jax.random.fold_in(state.key, state.step)
    k_begin, k_passes, k_end = jax.random.split(key, 3)
    state, losses = clock("begin", k_begin, state, stream), []
    for i, k in enumerate(jax.random.split(k_passes, passes)):
        k_draw, k_loss = jax.random.split(k)
        batch = clock("draw", k_draw, state, stream)
        grads, out, terms = clock("gradient", k_loss, state, batch)
        state = clock("descend", state, grads, out.model, jnp.int32(i))
        out = out._replace(model=())
        state = clock("update", state, batch, out)
        losses.append(terms)
        watch(batch, terms)
    state = clock("end", k_end, state, stream, out)
    return Seen(state, losses, seconds)
