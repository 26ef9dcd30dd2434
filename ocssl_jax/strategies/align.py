"""Alignment: keep projections close to those of a slower teacher (CLA, CaSSLe, CLIMB).

  L_align = mean over rows and views of -cos(a(z), t)

where a is a trained head and t the teacher's projection of the same augmented view.
The teacher's BN works on batch statistics, so only its parameters are kept.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ocssl_jax.core import Array, Batch, Key, Learner, Outputs, Params, Stream
from ocssl_jax.heads import Aligner
from ocssl_jax.losses import cosine, masked_mean
from ocssl_jax.strategies.base import Strategy

PARTS = ("encoder", "projector")  # what a teacher copies of the method's parameters


class Teacher(NamedTuple):
    """Where alignment targets come from."""

    init: Callable[[Learner], Any]  # -> state
    project: Callable[[Any, Learner, Array, Array], Array]  # (…, x [m h w c], mask [m])
    update: Callable[[Any, Learner], Any]  # after each optimizer update


def batch_statistics_projection(
    teacher: Params, learner: Learner, x: Array, mask: Array
) -> Array:
    """Projections [m d] of the teacher; its BN uses the batch's own statistics."""
    return learner.method.forward(teacher, learner.model, x, train=True, mask=mask).z


def ema(decay: float, *, parts: tuple[str, ...]) -> Teacher:
    """Teacher whose `parts` follow the learner: t <- decay t + (1 - decay) params.

    Parts left out of `parts` stay at their initial weights, as the projector does in
    CLIMB's released code.

    Raises:
      ValueError: if a part is neither 'encoder' nor 'projector'.
    """
    if not set(parts) <= set(PARTS):
        raise ValueError(f"ema parts must be among {PARTS}, got {parts}")

    def init(learner: Learner) -> Params:
        # A true copy: the state is donated, and two leaves must not share one buffer.
        return jax.tree.map(jnp.copy, {part: learner.params[part] for part in PARTS})

    def update(teacher: Params, learner: Learner) -> Params:
        moved = {
            part: jax.tree.map(
                lambda t, p: decay * t + (1 - decay) * p,
                teacher[part],
                learner.params[part],
            )
            for part in parts
        }
        return teacher | moved

    return Teacher(init, batch_statistics_projection, update)


class AlignState(NamedTuple):
    """What alignment carries: its teacher, and the head where that is not trained."""

    teacher: Any
    head: Any


def align(
    teacher: Teacher, *, weight: float, hidden: int, train_head: bool, on: str
) -> Strategy:
    """Add `weight` times the alignment loss to the SSL loss.

    Args:
      teacher: where the targets come from.
      weight: omega in CLA, lambda in CLIMB.
      hidden: width of the head's hidden layer.
      train_head: whether the head is trained; the optimizer's weight decay then holds
        from the first update on, before anything is replayed. False leaves the head at
        its random start, as CLIMB's released code does by never handing it over.
      on: 'replay' aligns the replayed rows, 'all' every row.

    Raises:
      ValueError: if `on` is neither of the two.
    """
    if on not in ("replay", "all"):
        raise ValueError(f"align on must be 'replay' or 'all', got {on!r}")

    def head(width: int) -> Aligner:
        return Aligner(hidden, width, jnp.float32)

    def init(key: Key, learner: Learner, stream: Stream) -> tuple[Any, AlignState]:
        width = jax.eval_shape(learner.embed, stream.image[:1]).shape[-1]
        params = head(width).init(key, jnp.zeros((2, width)), train=True)["params"]
        kept = ((), params) if train_head else (params, ())
        return kept[1], AlignState(teacher.init(learner), kept[0])

    def loss(
        params: Any, state: AlignState, learner: Learner, batch: Batch, out: Outputs
    ) -> dict[str, Array]:
        rows = batch.replayed if on == "replay" else batch.mask.shape[0]
        views = batch.views[:, :rows]
        mask = jnp.tile(batch.mask[:rows], views.shape[0])  # [v·rows], view by view
        z = out.z[:, :rows].reshape(mask.shape[0], -1)
        x = views.reshape(mask.shape[0], *views.shape[2:])
        target = teacher.project(state.teacher, learner, x, mask)
        weights = {"params": params if train_head else state.head}
        # The head's BN only ever uses batch statistics; the running ones are dropped.
        aligned, _ = head(z.shape[-1]).apply(
            weights, z, train=True, mask=mask, mutable=["batch_stats"]
        )
        term = -cosine(aligned, jax.lax.stop_gradient(target))
        return {"align": weight * masked_mean(term, mask)}

    def update(
        state: AlignState, learner: Learner, batch: Batch, out: Outputs
    ) -> AlignState:
        del batch, out
        return state._replace(teacher=teacher.update(state.teacher, learner))

    return Strategy(init=init, loss=loss, update=update)
