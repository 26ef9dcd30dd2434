"""Rows kept in memories that choose by order or by chance, and so read no feature."""

from typing import Any

import jax
import jax.numpy as jnp

from ocssl_jax.core import Array, Items, Key, Memory


def empty(memory: Memory, items: Items) -> Any:
    """State of a memory that will hold rows like `items` [n ...]."""
    one = jax.tree.map(lambda rows: rows[0], items)
    return memory.init(one, jnp.zeros((1,)))


def keep(key: Key, memory: Memory, state: Any, items: Items, mask: Array) -> Any:
    """State of a reservoir or a FIFO once `items` [b ...] of `mask` [b] have come."""
    nothing = jnp.zeros((len(mask), 1))
    return memory.add(key, state, items, nothing, mask, embed=None)


def absent(memory: Memory, state: Any, id: Array) -> Array:
    """[b] bool: which images `id` [b] are not held, as they are from epoch to epoch."""
    items, real = memory.rows(state)
    return ~jnp.isin(id, jnp.where(real, items["id"], -1))
