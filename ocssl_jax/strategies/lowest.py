"""The lowest loss that was seen of each stored row, for MIR's second score.

It belongs to the row: it is unknown when the row enters the memory and gone with it. In
the released code it belongs to a position among the rows that may be drawn, which is
another row's as soon as that set changes, starts at ln k and is never forgotten.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ocssl_jax.core import Array, Learner, Memory, Sample, Stream
from ocssl_jax.strategies.past import Past, may_be_drawn


class Lowest(NamedTuple):
    """Where the losses are kept: of the strategy's state, given and returned whole."""

    init: Callable[[Learner, Stream], Any]  # `Past.lowest`
    read: Callable[[Past, Sample], Array]  # of the rows drawn, [C]
    write: Callable[[Past, Array, Array, Array], Past]  # (state, slot, loss, mask)


def by_row(store: Memory) -> Lowest:
    """Beside each row, as its feature in the memory."""

    def write(state: Past, slot: Array, loss: Array, mask: Array) -> Past:
        memory = store.refresh(state.memory, slot, loss[:, None], mask)
        return state._replace(memory=memory)

    return Lowest(
        init=lambda learner, stream: (),
        read=lambda state, drawn: drawn.feature[:, 0],
        write=write,
    )


def by_position(store: Memory, capacity: int, *, past_only: bool) -> Lowest:
    """As the released code keeps them.

    Args:
      store: the memory.
      capacity: its slots.
      past_only: whether rows of the present experience may not be drawn.
    """

    def init(learner: Learner, stream: Stream) -> Array:
        classes = jax.eval_shape(learner.embed, stream.image[:1]).shape[1]
        return jnp.full(capacity, jnp.log(classes), jnp.float32)

    def position(state: Past) -> Array:
        items, held = store.rows(state.memory)
        if past_only:
            held &= may_be_drawn(state, items)
        return jnp.cumsum(held) - 1

    def write(state: Past, slot: Array, loss: Array, mask: Array) -> Past:
        where = jnp.where(mask, position(state)[slot], capacity)
        lowest = state.lowest.at[where].min(loss, mode="drop")
        return state._replace(lowest=lowest)

    return Lowest(
        init=init,
        read=lambda state, drawn: state.lowest[position(state)[drawn.slot]],
        write=write,
    )
