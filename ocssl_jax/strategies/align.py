"""Alignment: keep representations close to those of a teacher (CLA, CaSSLe, CLIMB).

  L_align = mean over rows and views of criterion(a(y), t)

where y is what the learner makes of an augmented view, a a trained head, and t the
teacher's target for it. Strategies differ in the teacher (`teachers.py`) and the rows;
the criterion (`criteria.py`), the space of y and t (`spaces.py`), the head and the
weight are settings that all of them share.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ocssl_jax.core import Array, Batch, Key, Learner, Model, Outputs, Stream
from ocssl_jax.heads import Aligner
from ocssl_jax.losses import masked_mean
from ocssl_jax.strategies.base import Strategy
from ocssl_jax.strategies.criteria import criterion_of
from ocssl_jax.strategies.spaces import space_of
from ocssl_jax.strategies.teachers import Teacher


class AlignState(NamedTuple):
    """What alignment carries: its teacher, and the head where that is not trained."""

    teacher: Any
    head: Any


def replayed_rows(batch: Batch) -> Batch:
    """The first rows of the batch, those that a memory has given."""
    r = batch.replayed
    mask, items, objective = jax.tree.map(
        lambda x: x[:r], (batch.mask, batch.items, batch.objective)
    )
    return dataclasses.replace(
        batch, views=batch.views[:, :r], mask=mask, items=items, objective=objective
    )


def align(
    teacher: Teacher,
    *,
    rows: str,
    on: str,
    criterion: str,
    weight: float,
    hidden: int,
    use_aligner: bool,
    train_head: bool,
) -> Strategy:
    """Add `weight` times the alignment loss to the SSL loss.

    Args:
      teacher: where the targets come from.
      rows: 'replay' aligns the replayed rows, 'all' every row.
      on: 'projection' or 'feature', what is aligned, a name of `SPACES`.
      criterion: 'cosine', 'mse' or 'ssl', a name of `CRITERIA`.
      weight: omega in CLA, lambda in CLIMB.
      hidden: width of the head's hidden layer.
      use_aligner: whether there is a head; without one y itself is aligned.
      train_head: whether the head is trained; the optimizer's weight decay then holds
        from the first update on, before anything is replayed. False leaves the head at
        its random start, as CLIMB's released code does by never handing it over.

    Raises:
      ValueError: if `rows`, `on` or `criterion` is none of these.
    """
    if rows not in ("replay", "all"):
        raise ValueError(f"aligned rows must be 'replay' or 'all', got {rows!r}")
    space, distance = space_of(on), criterion_of(criterion)

    def head(width: int) -> Aligner:
        return Aligner(hidden, width, jnp.float32)

    def init(key: Key, learner: Learner, stream: Stream) -> tuple[Any, AlignState]:
        if not use_aligner:
            return (), AlignState(teacher.init(learner), ())
        seen = jax.eval_shape(learner.encode, stream.image[:1])
        width = space(seen).shape[-1]
        params = head(width).init(key, jnp.zeros((2, width)), train=True)["params"]
        kept = ((), params) if train_head else (params, ())
        return kept[1], AlignState(teacher.init(learner), kept[0])

    def begin(
        key: Key, state: AlignState, learner: Learner, stream: Stream
    ) -> tuple[AlignState, Model]:
        del key
        begun = teacher.begin(state.teacher, learner, stream.boundary)
        return state._replace(teacher=begun), learner.model

    def aligned(params: Any, state: AlignState, y: Array, mask: Array) -> Array:
        """a(y) [m d]."""
        if not use_aligner:
            return y
        weights = {"params": params if train_head else state.head}
        # The head's BN only ever uses batch statistics; the running ones are dropped.
        moved, _ = head(y.shape[-1]).apply(
            weights, y, train=True, mask=mask, mutable=["batch_stats"]
        )
        return moved

    def loss(
        params: Any, state: AlignState, learner: Learner, batch: Batch, out: Outputs
    ) -> dict[str, Array]:
        seen = replayed_rows(batch) if rows == "replay" else batch
        target, mask = teacher.project(state.teacher, learner, seen, space)
        y = space(out)[:, : seen.mask.shape[0]]  # [v m d] -> [v·m d], view by view
        prediction = aligned(params, state, y.reshape(mask.shape[0], -1), mask)
        target = jax.lax.stop_gradient(target)
        term = distance(learner.method, prediction, target, mask)
        return {"align": weight * masked_mean(term, mask)}

    def update(
        state: AlignState, learner: Learner, batch: Batch, out: Outputs
    ) -> AlignState:
        del batch, out
        return state._replace(teacher=teacher.update(state.teacher, learner))

    return Strategy(init=init, begin=begin, loss=loss, update=update)
