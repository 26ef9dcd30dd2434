"""Teachers: where alignment targets come from.

ema     a copy of the learner that follows it slowly (CLA-E, CLA-B, CLIMB)
frozen  a copy of the learner as the last experience left it (CaSSLe)
stored  what the learner itself said of a replayed image when it last saw it (CLA-R)

The copies' BN works on the statistics of the rows that are aligned, all views at once,
so only their parameters are kept.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from ocssl_jax.core import Array, Batch, Learner, Params
from ocssl_jax.strategies.spaces import Space

PARTS = ("encoder", "projector")  # what a teacher copies of the method's parameters


def _begin(state: Any, learner: Learner, boundary: Array) -> Any:
    """Keep the state, whatever begins."""
    del learner, boundary
    return state


def _update(state: Any, learner: Learner) -> Any:
    """Keep the state."""
    del learner
    return state


class Teacher(NamedTuple):
    """Where alignment targets come from.

    `project` is given the rows to align: views [v m h w c], mask [m] and, if they are
    replayed, `stored` [m d]. It returns targets [v·m d], view by view, and [v·m] bool,
    the rows among the real ones for which there is a target.
    """

    init: Callable[[Learner], Any]  # -> state
    project: Callable[[Any, Learner, Batch, Space], tuple[Array, Array]]
    begin: Callable[[Any, Learner, Array], Any] = _begin  # (state, learner, boundary)
    update: Callable[[Any, Learner], Any] = _update  # after each optimizer update


def copied(learner: Learner) -> Params:
    """The parts of the learner that a teacher keeps."""
    # A true copy: the state is donated, and two leaves must not share one buffer.
    return jax.tree.map(jnp.copy, {part: learner.params[part] for part in PARTS})


def targets(
    teacher: Params, learner: Learner, batch: Batch, space: Space
) -> tuple[Array, Array]:
    """What `teacher` makes of the views [v·m d], and which rows are real [v·m]."""
    views, rows = batch.views.shape[:2]
    mask = jnp.tile(batch.mask, views)
    x = batch.views.reshape(views * rows, *batch.views.shape[2:])
    seen = learner.method.forward(teacher, learner.model, x, train=True, mask=mask)
    return space(seen), mask


def ema(decay: float, *, parts: tuple[str, ...]) -> Teacher:
    """Teacher whose `parts` follow the learner: t <- decay t + (1 - decay) params.

    Parts left out of `parts` stay at their initial weights, as the projector does in
    CLIMB's released code.

    Raises:
      ValueError: if a part is neither 'encoder' nor 'projector'.
    """
    if not set(parts) <= set(PARTS):
        raise ValueError(f"ema parts must be among {PARTS}, got {parts}")

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

    return Teacher(copied, targets, update=update)


class Frozen(NamedTuple):
    """A frozen teacher and how far the stream has come."""

    params: Params
    begun: Array  # [] bool, a batch has come: the next boundary ends an experience
    past: Array  # [] bool, an experience has ended


def frozen(*, skip_first: bool) -> Teacher:
    """Teacher that is copied from the learner at each boundary (Fini et al. 2022).

    Args:
      skip_first: give no targets during the first experience, when there is nothing to
        remember. False gives those of the initial weights, as the released code does.
    """

    def init(learner: Learner) -> Frozen:
        return Frozen(copied(learner), jnp.zeros((), bool), jnp.zeros((), bool))

    def begin(teacher: Frozen, learner: Learner, boundary: Array) -> Frozen:
        params = {
            part: jax.tree.map(
                lambda t, p: jnp.where(boundary, p, t),
                teacher.params[part],
                learner.params[part],
            )
            for part in PARTS
        }
        past = teacher.past | (boundary & teacher.begun)
        return Frozen(params, jnp.ones((), bool), past)

    def project(
        teacher: Frozen, learner: Learner, batch: Batch, space: Space
    ) -> tuple[Array, Array]:
        target, mask = targets(teacher.params, learner, batch, space)
        return target, mask & teacher.past if skip_first else mask

    return Teacher(init, project, begin)


def stored() -> Teacher:
    """The feature kept with each replayed row, as it was before this pass refreshes it.

    All views of a row have the same target. Only rows of a memory have one, and the
    memory must store the space that is aligned.
    """

    def project(
        state: tuple[()], learner: Learner, batch: Batch, space: Space
    ) -> tuple[Array, Array]:
        del state, learner, space
        views, rows = batch.views.shape[:2]
        if batch.stored is None:
            raise ValueError("stored features: only replayed rows have them")
        chex.assert_shape(batch.stored, (rows, None))
        return jnp.tile(batch.stored, (views, 1)), jnp.tile(batch.mask, views)

    return Teacher(lambda learner: (), project)
