"""EWC (Kirkpatrick et al. 2017): weights that mattered before move little.

L = L(x) + weight / 2 * sum_i F_i (p_i - p*_i)^2
when an experience has ended:   p* <- p
    F_i <- F_i + min(largest, mean over rows of it of (d log-likelihood / d p_i)^2)

F is the diagonal of the empirical Fisher information, from gradients of single rows:
those of batches are too small. There is one anchor p* and one sum F, whatever the
number of experiences (Huszar 2018); the bound on F is what implementations need to be
stable. That an experience has ended is known when the next begins, so that some of its
images are kept until then.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ocssl_jax.core import (
    Array,
    Batch,
    Items,
    Key,
    Learner,
    Model,
    Outputs,
    Params,
    Stream,
)
from ocssl_jax.memory import plain
from ocssl_jax.memory.featureless import absent, empty, keep
from ocssl_jax.strategies.base import Strategy


class Anchored(NamedTuple):
    """State of EWC."""

    anchor: Params  # the method's, when the last experience had ended
    fisher: Params  # likewise, at least 0
    present: Any  # a memory of some of the present experience


def ewc(*, weight: float, samples: int, largest: float) -> Strategy:
    """Elastic weight consolidation of all that the method trains.

    Args:
      weight: lambda of the penalty.
      samples: images of an experience that its Fisher information is estimated from.
      largest: bound on that of one experience.
    """
    store = plain("reservoir", samples, feature_decay=0.0)

    def init(key: Key, learner: Learner, stream: Stream) -> tuple[Any, Anchored]:
        del key
        # A true copy: the state is donated, and two leaves must not share one buffer.
        anchor = jax.tree.map(jnp.copy, learner.params)
        fisher = jax.tree.map(jnp.zeros_like, anchor)
        present = empty(store, stream.items())
        return (), Anchored(anchor, fisher, present)

    def begin(
        key: Key, state: Anchored, learner: Learner, stream: Stream
    ) -> tuple[Anchored, Model]:
        classes = None if stream.pool is None else len(stream.pool)

        def settled(state: Anchored) -> Anchored:
            items, real = store.rows(state.present)
            new = information(key, learner, items, real, classes=classes)
            add = lambda old, f: old + jnp.minimum(f, largest)
            fisher = jax.tree.map(add, state.fisher, new)
            present = empty(store, stream.items())
            return Anchored(learner.params, fisher, present)

        ended = stream.boundary & (store.size(state.present) > 0)
        state = jax.lax.cond(ended, settled, lambda state: state, state)
        return state, learner.model

    def loss(
        params: Any, state: Anchored, learner: Learner, batch: Batch, out: Outputs
    ) -> dict[str, Array]:
        del params, batch, out
        far = lambda f, p, then: jnp.sum(f * jnp.square(p - then))
        parts = jax.tree.map(far, state.fisher, learner.params, state.anchor)
        return {"anchor": weight / 2 * jnp.sum(jnp.stack(jax.tree.leaves(parts)))}

    def end(
        key: Key, state: Anchored, learner: Learner, stream: Stream, out: Outputs
    ) -> tuple[Anchored, Model]:
        del out
        fresh = stream.mask & absent(store, state.present, stream.id)
        present = keep(key, store, state.present, stream.items(), fresh)
        return state._replace(present=present), learner.model

    return Strategy(
        init=init,
        begin=begin,
        loss=loss,
        end=end,
        metrics=lambda state: {"task_images": store.size(state.present)},
    )


def information(
    key: Key, learner: Learner, items: Items, real: Array, *, classes: int | None
) -> Params:
    """Mean square of single rows' gradients, as a tree like the method's parameters.

    Args:
      key: of the losses; rows are not augmented.
      learner: whose parameters these are.
      items: [n ...] rows.
      real: [n] bool, rows that count.
      classes: k, for methods that ask for a pool: each row's is that row alone, which
        is how a row counts once, however batches are drawn.
    """

    def gradient(item: Items) -> Params:
        rows = jax.tree.map(lambda x: x[None], item)
        view = learner.prepare(rows["image"])[None]
        pool = None if classes is None else jax.nn.one_hot(item["label"], classes)
        batch = Batch(view, jnp.ones(1, bool), rows, pool=pool)

        def loss(params: Params) -> Array:
            out = learner.method.loss(params, learner.model, batch, key, train=False)
            return out.loss[0]

        return jax.grad(loss)(learner.params)

    def add(total: Params, row: tuple[Items, Array]) -> tuple[Params, tuple[()]]:
        item, counts = row
        square = lambda t, g: t + jnp.where(counts, jnp.square(g), 0.0)
        return jax.tree.map(square, total, gradient(item)), ()

    start = jax.tree.map(jnp.zeros_like, learner.params)
    total, _ = jax.lax.scan(add, start, (items, real))
    count = jnp.maximum(jnp.sum(real), 1)
    return jax.tree.map(lambda t: t / count, total)
