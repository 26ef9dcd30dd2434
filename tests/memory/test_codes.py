"""Codes that are carried over: slot by slot, a chunk at a time."""

import jax.numpy as jnp
import numpy as np
import pytest

from ocssl_jax.memory.base import Ranked
from ocssl_jax.memory.codes import CHUNK, recoded


@pytest.mark.parametrize("slots", [5, CHUNK, 2 * CHUNK + 7])
def test_held_codes_are_carried_over_chunk_by_chunk(slots):
    rng = np.random.default_rng(0)
    code = rng.normal(size=(slots, 3)).astype(np.float32)
    held = rng.random(slots) < 0.7
    label = np.arange(slots, dtype=np.int32)
    items = {"code": jnp.asarray(code), "label": jnp.asarray(label)}
    state = Ranked(items, jnp.zeros((slots, 1)), jnp.zeros(slots))

    def recode(rows, mask):  # every row hears of the others of its chunk
        total = jnp.sum(jnp.where(mask[:, None], rows, 0.0), axis=0, keepdims=True)
        return rows + total

    found = recoded(state, jnp.asarray(held), recode)
    expected = code.copy()
    for first in range(0, slots, CHUNK):
        own = slice(first, first + CHUNK)
        expected[own] += np.where(held[own, None], code[own], 0).sum(axis=0)
    expected[~held] = code[~held]
    np.testing.assert_allclose(found.items["code"], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.items["label"], label)
