"""Codes that a memory holds in place of images, and how they outlive their encoder."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp

from ocssl_jax.core import Array
from ocssl_jax.memory.base import Ranked

CHUNK = 64  # codes carried over at a time

Recode = Callable[[Array, Array], Array]  # (codes [m z], mask [m]) -> codes [m z]


def recoded(state: Ranked, held: Array, recode: Recode) -> Ranked:
    """The memory with other codes of the same rows, slot after slot.

    Args:
      state: with codes [N z] float32 as its item 'code'.
      held: [N] bool, slots that hold something.
      recode: is shown `CHUNK` slots at a time.
    """
    code = state.items["code"]
    short = -len(code) % CHUNK
    chunks = lambda x: jnp.pad(x, ((0, short), *[(0, 0)] * (x.ndim - 1))).reshape(
        -1, CHUNK, *x.shape[1:]
    )
    found = jax.lax.map(lambda rows: recode(*rows), (chunks(code), chunks(held)))
    new = found.reshape(-1, code.shape[1])[: len(code)]
    new = jnp.where(held[:, None], new, code)
    return replace(state, items={**state.items, "code": new})
