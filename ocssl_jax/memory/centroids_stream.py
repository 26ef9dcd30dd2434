"""CLIMB's memory meets a stream batch, one image at a time: novel, known, ignored."""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from ocssl_jax.core import Array, Embed, Items, Key
from ocssl_jax.losses import unit
from ocssl_jax.memory import centroids_ltm as long_term
from ocssl_jax.memory.centroids_consolidate import consolidate
from ocssl_jax.memory.centroids_state import (
    PROMOTED,
    Centroids,
    Settings,
    Table,
    plus,
)
from ocssl_jax.memory.centroids_window import Window, push

# A promoted centroid and its anchor start as twins; rounding must not choose between
# them, so distances this close count as equal, and the STM comes first.
TWINS = 1e-6


class Arrival(NamedTuple):
    """One stream image: its embedding, its place in the store, whether it is real."""

    number: Array  # [] int32, of the image in its batch
    z: Array  # [d] float32
    place: Array  # [] int32
    live: Array  # [] bool
    draws: long_term.Draws


class Meeting(NamedTuple):
    """What the images of a stream batch change in turn."""

    table: Table
    window: Window
    cosine: Array  # [C b] of every row with every image, kept true as rows move


class Event(NamedTuple):
    """What an image does to the table."""

    row: Array  # [] int32, the row touched; C where there is none
    novel: Array  # [] bool, it makes a new centroid in that row
    moves: Array  # [] bool, it moves that STM centroid
    fills: Array  # [] bool, the row was free before


def cosines(embedding: Array, z: Array) -> Array:
    """[m b] cosines of rows `embedding` [m d] with images `z` [b d]."""
    return jnp.matmul(unit(embedding), unit(z).T, precision="highest")


def nearest(table: Table, cosine: Array) -> tuple[Array, Array]:
    """Row and distance [] of the nearest centroid by `cosine` [C]; inf if none."""
    distance = jnp.where(table.count > 0, 1 - cosine, jnp.inf)
    stm = jnp.argmin(distance[: table.stm])
    ltm = table.stm + jnp.argmin(distance[table.stm :])
    row = jnp.where(distance[stm] <= distance[ltm] + TWINS, stm, ltm)
    return row, distance[row]


def decide(settings: Settings, met: Meeting, image: Arrival) -> tuple[Event, Array]:
    """What the image does, and its distance [] to the nearest centroid."""
    table, threshold = met.table, met.window.threshold
    near, distance = nearest(table, met.cosine[:, image.number])
    used = table.count[: settings.stm] > 0
    filling = ~jnp.all(used)
    novel = image.live & (filling | (distance > threshold))
    # A NaN threshold (fidelity) is neither exceeded nor met: the image is not stored.
    known = image.live & ~filling & (distance <= threshold)
    gate = table.matches[0 if settings.freeze_with_first_row else near]
    moves = known & (near < settings.stm) & (gate != PROMOTED)
    joins = known & (near >= settings.stm)
    born = jnp.where(filling, jnp.argmin(used), jnp.argmax(table.age))
    row = jnp.where(novel, born, jnp.where(moves | joins, near, settings.centroids))
    return Event(row, novel, moves, filling), distance


def apply(
    settings: Settings, table: Table, event: Event, image: Arrival, full_slot: Array
) -> tuple[Table, Array]:
    """Writes the event; `full_slot` [] is the slot a full LTM row gives up, or M.

    Returns:
      The table, positions as they were; and where the row touched is now [d].
    """
    row, count = event.row, table.count[event.row]
    m = settings.images_per_centroid
    last = jnp.where(count < m, count, jnp.where(row < settings.stm, m, full_slot))
    slot = jnp.where(event.novel, 0, last)
    first = jnp.where(event.fills, settings.first_fill_matches, 1)
    matches = jnp.where(event.novel, first, plus(table.matches[row], 1))
    old = table.embedding[row]
    moved = (1 - settings.alpha) * old + settings.alpha * image.z
    position = jnp.where(event.novel, image.z, jnp.where(event.moves, moved, old))
    count = jnp.where(event.novel, 1, jnp.minimum(count + 1, m))
    age = table.age.at[row].set(0, mode="drop")  # LTM rows lie beyond its end
    after = replace(
        table,
        place=table.place.at[row, slot].set(image.place, mode="drop"),
        count=table.count.at[row].set(count, mode="drop"),
        matches=table.matches.at[row].set(matches, mode="drop"),
        age=plus(age, image.live.astype(age.dtype)),
    )
    return after, position


def observe(
    settings: Settings,
    state: Centroids,
    embed: Embed,
    z: Array,
    met: Meeting,
    image: Arrival,
) -> tuple[Meeting, Array]:
    """One stream image, in the order of the paper; `state` gives the images only.

    `z` [b d] are all images of the batch. A row's cosines are computed when it moves,
    not anew for each image: all centroids would be read once an image.
    """
    table, window = met.table, met.window
    event, distance = decide(settings, met, image)

    m = settings.images_per_centroid
    held = table.place[event.row]
    ltm_full = (event.row >= settings.stm) & (table.count[event.row] == m)
    wanted = ltm_full & (event.row < settings.centroids)

    def likeness() -> Array:
        encode = lambda: jnp.matmul(
            unit(embed(state.items["image"][held])), unit(image.z), precision="highest"
        )
        return jax.lax.cond(wanted, encode, lambda: jnp.zeros(m))

    full = long_term.Full(
        image.draws,
        plus(table.matches[event.row], 1),
        state.arrival[held],
        likeness,
    )
    slot = long_term.overwritten(settings.ltm_replace, full)
    table, position = apply(settings, table, event, image, slot)

    nan = settings.fill_pushes_nan
    seen = image.live & (jnp.isfinite(distance) | (event.fills & nan))
    window = push(
        window,
        jnp.where(event.fills & nan, jnp.nan, distance),
        seen,
        repeats=settings.window_repeats,
        percentile=settings.percentile,
    )
    table, promoted = long_term.promote(table, event.row)
    moved = jnp.stack([event.row, promoted])
    uniform, select = image.draws.merge, settings.merge_select
    table, moved, rows = long_term.merge(table, moved, position, uniform, select=select)
    embedding = table.embedding
    for i in range(3):
        embedding = embedding.at[moved[i]].set(rows[i], mode="drop")
    table = replace(table, embedding=embedding)
    cosine = met.cosine.at[moved].set(cosines(rows, z), mode="drop")
    return Meeting(table, window, cosine), event.novel


def free_places(state: Centroids, n: int) -> Array:
    """[n] places of the store that no centroid names."""
    places = state.arrival.shape[0]
    named = jnp.where(state.table.entries, state.table.place, places)
    used = jnp.zeros(places, bool).at[named.reshape(-1)].set(True, mode="drop")
    return jnp.nonzero(~used, size=n, fill_value=places)[0].astype(jnp.int32)


def add(
    settings: Settings,
    key: Key,
    state: Centroids,
    items: Items,
    feature: Array,
    mask: Array,
    *,
    embed: Embed,
) -> Centroids:
    """A stream batch of b rows, then consolidation if the budget is reached.

    Args:
      settings: the memory's.
      key: PRNG key; row i uses `draw(split(key, b)[i], M)`.
      state: the memory.
      items: [b ...] rows to store.
      feature: [b d] their embeddings by the current encoder, not augmented.
      mask: [b] bool; other rows change nothing.
      embed: uint8 [m h w c] -> [m d], the current encoder.

    Raises:
      ValueError: b is larger than the `batch_size` the memory was made for.
    """
    chex.assert_equal_shape_prefix([*items.values(), feature, mask], 1)
    b = mask.shape[0]
    if b > settings.batch_size:
        raise ValueError(
            f"this memory takes at most batch_size={settings.batch_size} rows at a"
            f" time, not {b}"
        )
    # Real rows are written to places nobody names; those that no centroid takes up are
    # free again at once. The scan then never touches an image.
    place = free_places(state, b)
    spot = jnp.where(mask, place, len(state.arrival))
    write = lambda store, x: store.at[spot].set(x.astype(store.dtype), mode="drop")
    state = replace(
        state,
        items=jax.tree.map(write, state.items, items),
        arrival=write(state.arrival, jnp.full((b,), state.cycle)),
    )
    keys = jax.random.split(key, b)
    draws = jax.vmap(lambda k: long_term.draw(k, settings.images_per_centroid))(keys)
    z = feature.astype(jnp.float32)
    images = Arrival(jnp.arange(b), z, place, mask, draws)
    met = Meeting(state.table, state.window, cosines(state.table.embedding, z))
    met, novel = jax.lax.scan(partial(observe, settings, state, embed, z), met, images)
    arrived = jnp.any(mask)
    share = jnp.sum(novel) / jnp.maximum(jnp.sum(mask), 1)
    share = jnp.where(arrived, share, state.novelty)
    state = replace(state, table=met.table, window=met.window, novelty=share)
    return consolidate(settings, state, embed, arrived)
