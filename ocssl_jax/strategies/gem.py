"""GEM: a step along which no earlier task's loss rises, as far as one can see.

Gradient episodic memory (Lopez-Paz and Ranzato 2017), with one head for all tasks:

g   <- gradient on stream(b);   G_k <- gradient on all that is held of earlier task k
if g . G_k < 0 for some k:
    v <- argmin 1/2 v' (G G' + 1e-3) v + (G g)' v,   v >= margin
    g <- g + G' v
after the passes:  the rows enter the present task's memory, a FIFO of N / T images

Tasks are told apart by the stream's boundaries. Gradients on memories are with BN
statistics of their own, and leave the running ones as they are.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ocssl_jax.core import Array, Batch, Key, Learner, Model, Outputs, Params, Stream
from ocssl_jax.losses import masked_mean
from ocssl_jax.memory.featureless import empty, keep
from ocssl_jax.memory.fifo import fifo
from ocssl_jax.strategies.base import Strategy
from ocssl_jax.strategies.gem_projection import projected


class Tasks(NamedTuple):
    """State of GEM."""

    memory: Any  # of every task, stacked: [T ...]
    task: Array  # [] int32, the present task; -1 before the first


def gem(*, tasks: int, memory_size: int, margin: float) -> Strategy:
    """GEM with a memory for each of `tasks` tasks.

    Args:
      tasks: T, the stream's.
      memory_size: images kept of all tasks together, N.
      margin: the paper's memory strength, at least 0: how much of the gradient of every
        earlier task is added when one of them is violated.

    Raises:
      ValueError: if there is less than an image a task.
    """
    if memory_size < tasks:
        raise ValueError(
            f"memory_size must be at least {tasks}, an image of each task, got "
            f"{memory_size}"
        )
    store = fifo(memory_size // tasks, feature_decay=0.0)

    def init(key: Key, learner: Learner, stream: Stream) -> tuple[Any, Tasks]:
        del key, learner
        one = empty(store, stream.items())
        every = jax.tree.map(lambda x: jnp.repeat(x[None], tasks, axis=0), one)
        return (), Tasks(every, jnp.int32(-1))

    def begin(
        key: Key, state: Tasks, learner: Learner, stream: Stream
    ) -> tuple[Tasks, Model]:
        del key
        task = jnp.minimum(state.task + stream.boundary, tasks - 1)
        return state._replace(task=task.astype(jnp.int32)), learner.model

    def gradient(
        key: Key, state: Tasks, learner: Learner, batch: Batch, grads: Params
    ) -> Params:
        del batch
        own, shaped = ravel_pytree(grads["method"])

        def on_memory(t: Array) -> Array:
            held = jax.tree.map(lambda x: x[t], state.memory)
            slope = lambda: ravel_pytree(jax.grad(mean)(learner.params, held))[0]
            return jax.lax.cond(t < state.task, slope, lambda: jnp.zeros_like(own))

        def mean(params: Params, held: Any) -> Array:
            items, mask = store.rows(held)
            rows = Batch(learner.prepare(items["image"])[None], mask, items)
            out = learner.method.loss(params, learner.model, rows, key)
            return masked_mean(out.loss, mask)

        numbers = jnp.arange(tasks)
        past = jax.lax.map(on_memory, numbers)
        found = projected(own, past, numbers < state.task, margin=margin)
        return {**grads, "method": shaped(found)}

    def end(
        key: Key, state: Tasks, learner: Learner, stream: Stream, out: Outputs
    ) -> tuple[Tasks, Model]:
        del out
        held = jax.tree.map(lambda x: x[state.task], state.memory)
        held = keep(key, store, held, stream.items(), stream.mask)
        put = lambda every, one: every.at[state.task].set(one)
        memory = jax.tree.map(put, state.memory, held)
        return state._replace(memory=memory), learner.model

    def metrics(state: Tasks) -> dict[str, Array]:
        return {"memory_images": jnp.sum(jax.vmap(store.size)(state.memory))}

    return Strategy(init=init, begin=begin, gradient=gradient, end=end, metrics=metrics)
