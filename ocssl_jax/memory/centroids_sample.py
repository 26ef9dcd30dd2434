"""Replay from CLIMB's memory: drawing images, and moving the centroids replayed."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp

from ocssl_jax.core import Array, Key, Sample
from ocssl_jax.memory.centroids_state import Centroids, Settings


def sample(settings: Settings, key: Key, state: Centroids, n: int) -> Sample:
    """Draws `n` images without replacement, the LTM's first.

    `int(ratio_ltm * n)` come from the LTM and the rest from the STM, uniformly over
    images; where one half holds too few, the other fills up.

    Returns:
      The rows; `feature` [n d] holds the centroid of each, `slot` names centroid and
      image.

    Raises:
      ValueError: n is larger than the image budget.
    """
    if n > settings.budget:
        raise ValueError(
            f"cannot draw {n} rows from a memory of at most {settings.budget} images"
        )
    table, m = state.table, settings.images_per_centroid
    held = table.entries.reshape(-1)
    score = jnp.where(held, jax.random.uniform(key, held.shape), -1.0)
    border = table.stm * m
    short = jax.lax.top_k(score[:border], min(n, border))[1]
    long = border + jax.lax.top_k(score[border:], min(n, held.size - border))[1]
    have_short, have_long = jnp.sum(held[:border]), jnp.sum(held[border:])

    wanted = jnp.maximum(int(settings.ratio_ltm * n), n - have_short)
    n_long = jnp.minimum(wanted, have_long)
    i = jnp.arange(n)
    from_short = short.at[jnp.maximum(i - n_long, 0)].get(mode="clip")
    slot = jnp.where(i < n_long, long.at[i].get(mode="clip"), from_short)
    mask = i < n_long + have_short
    slot = jnp.where(mask, slot, 0)
    place = table.place.reshape(-1)[slot]
    items = jax.tree.map(lambda x: x[place], state.items)
    return Sample(items, table.embedding[slot // m], slot, mask)


def swapped(slot: Array, mask: Array, border: int) -> Array:
    """The slots [n] as the released code pairs them with the replayed features.

    It draws LTM rows first but hands the features out to the STM rows first.
    """
    last = jnp.where(mask, slot >= border, True)
    order = jnp.argsort(2 * (~mask).astype(jnp.int32) + last.astype(jnp.int32))
    position = jnp.cumsum(mask) - 1  # the p-th real feature goes to the p-th slot
    return slot[order][jnp.maximum(position, 0)]


def in_turn(embedding: Array, row: Array, rate: Array, z: Array) -> Array:
    """Row after row as it is written; on a CPU a fifth of the time of `at_once`."""

    def step(embedding: Array, one: tuple[Array, Array]) -> tuple[Array, None]:
        i, z = one
        moved = (1 - rate[i]) * embedding[i] + rate[i] * z
        return embedding.at[i].set(moved, mode="drop"), None

    return jax.lax.scan(step, embedding, (row, z))[0]


def at_once(embedding: Array, row: Array, rate: Array, z: Array) -> Array:
    """The same without a loop, whose steps an accelerator would have to wait for.

    For the k rows z_1..z_k of one centroid the sequence ends at
    (1-a)^k e + sum_i a (1-a)^(k-i) z_i.
    """
    stay = 1 - rate  # [C]
    same = row[:, None] == row[None, :]
    later = jnp.sum(jnp.triu(same, k=1), axis=1)  # of the same centroid, still to come
    mine = jnp.arange(len(rate))[:, None] == row[None, :]  # [C n]
    weight = rate[:, None] * stay[:, None] ** later[None, :].astype(jnp.float32)
    pull = jnp.matmul(jnp.where(mine, weight, 0.0), z, precision="highest")
    rest = stay ** jnp.sum(mine, axis=1).astype(jnp.float32)
    return rest[:, None] * embedding + pull


def refresh(
    settings: Settings, state: Centroids, slot: Array, feature: Array, mask: Array
) -> Centroids:
    """Moves the centroids of replayed rows: e <- (1 - a) e + a z, row after row.

    a = refresh_rate / (images of the centroid).

    Args:
      settings: the memory's.
      state: the memory the rows were drawn from.
      slot: [n] int32, as drawn.
      feature: [n d], the rows' projections now (mean over views).
      mask: [n] bool, other rows are ignored.
    """
    chex.assert_equal_shape_prefix([slot, feature, mask], 1)
    if not settings.refresh_centroids:
        return state
    table, m = state.table, settings.images_per_centroid
    if settings.swap_halves:
        slot = swapped(slot, mask, table.stm * m)
    row = jnp.where(mask, slot // m, settings.centroids)  # [n]
    rate = settings.refresh_rate / jnp.maximum(table.count, 1).astype(jnp.float32)
    embedding = jax.lax.platform_dependent(
        *(table.embedding, row, rate, feature.astype(jnp.float32)),
        cpu=in_turn,
        default=at_once,
    )
    return replace(state, table=replace(table, embedding=embedding))
