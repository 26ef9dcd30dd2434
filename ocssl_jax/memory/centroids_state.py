"""State of CLIMB's memory: one table of centroids, one store of images.

The table's first L rows are the short-term memory (STM), the K + 1 after them the
long-term memory (LTM; one spare row, because promotion comes before the merge). A row
is in use while it holds an image. The table names its images by their place in the
store, so promotions and merges move integers; an image is written once and its place
is free again as soon as no centroid names it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ocssl_jax.core import Array, Items
from ocssl_jax.memory.centroids_window import Window, empty_window

PROMOTED = -1  # in `matches`: this STM row was promoted and is only an anchor


def plus(count: Array, more: Array | int) -> Array:
    """`count` + `more` (0 or more), int32, which stays at its largest number.

    Beyond 2^31 a counter that started again below zero would turn its meaning round:
    the oldest would be the youngest.
    """
    total = count + more
    return jnp.where(total < count, jnp.iinfo(jnp.int32).max, total)


class Settings(NamedTuple):
    """What `centroids` closes over; its docstring explains each one."""

    budget: int  # N
    batch_size: int  # b
    stm: int  # L
    ltm: int  # K
    images_per_centroid: int  # M
    window: int  # w
    percentile: float  # p
    alpha: float
    refresh_rate: float
    ratio_ltm: float
    ltm_replace: str
    merge_select: str
    consolidation: str
    refresh_centroids: bool
    swap_halves: bool
    window_repeats: int
    fill_pushes_nan: bool
    freeze_with_first_row: bool
    first_fill_matches: int

    @property
    def centroids(self) -> int:
        """C = L + K + 1, rows of the table."""
        return self.stm + self.ltm + 1


@struct.dataclass
class Table:
    """The centroids. L and M can be read off the shapes."""

    embedding: Array  # [C d] float32
    place: Array  # [C M] int32, where in the store; the first `count` are real
    count: Array  # [C] int32, images held; 0 = the row is free
    matches: Array  # [C] int32, since the centroid was made; STM rows may be PROMOTED
    age: Array  # [L] int32, stream images since the STM row's last match

    @property
    def stm(self) -> int:
        """L, the number of STM rows."""
        return self.age.shape[-1]

    @property
    def entries(self) -> Array:
        """[C M] bool: which entries of `place` are real."""
        return jnp.arange(self.place.shape[-1])[None, :] < self.count[:, None]


@struct.dataclass
class Centroids:
    """The whole memory. An image's slot is (table row) * M + (index in the row)."""

    items: Items  # [N + b ...]
    arrival: Array  # [N + b] int32, the cycle in which each image was stored
    table: Table
    window: Window
    cycle: Array  # [] int32, consolidations so far
    novelty: Array  # [] float32, share of the last batch that made new centroids


class Centroid(NamedTuple):
    """One centroid and what it holds, on the host, for pictures."""

    half: str  # 'ltm' or 'stm'
    items: dict[str, np.ndarray]  # [count ...]
    images: int
    matches: int


def init(settings: Settings, item: Items, feature: Array) -> Centroids:
    """An empty memory for rows like `item` [...] and `feature` [d]."""
    places = settings.budget + settings.batch_size
    rows = lambda x: jnp.zeros((places, *jnp.shape(x)), jnp.asarray(x).dtype)
    c = settings.centroids
    return Centroids(
        items=jax.tree.map(rows, item),
        arrival=jnp.zeros(places, jnp.int32),
        table=Table(
            embedding=jnp.zeros((c, *jnp.shape(feature)), jnp.float32),
            place=jnp.zeros((c, settings.images_per_centroid), jnp.int32),
            count=jnp.zeros(c, jnp.int32),
            matches=jnp.zeros(c, jnp.int32),
            age=jnp.zeros(settings.stm, jnp.int32),
        ),
        window=empty_window(settings.window),
        cycle=jnp.int32(0),
        novelty=jnp.float32(0.0),
    )


def size(state: Centroids) -> Array:
    """Images held [] int32; an image that both halves hold counts twice."""
    return jnp.sum(state.table.count)


def rows(state: Centroids) -> tuple[Items, Array]:
    """Every slot's item [C*M ...] and whether it is real [C*M]; makes a copy."""
    place = state.table.place.reshape(-1)
    return jax.tree.map(lambda x: x[place], state.items), state.table.entries.reshape(
        -1
    )


def metrics(state: Centroids) -> dict[str, Array]:
    """Scalars for the log."""
    stm = state.table.stm
    short, long = state.table.count[:stm], state.table.count[stm:]
    return {
        "memory_images": size(state),
        "stm_centroids": jnp.sum(short > 0),
        "ltm_centroids": jnp.sum(long > 0),
        "stm_images": jnp.sum(short),
        "ltm_images": jnp.sum(long),
        "threshold": state.window.threshold,
        "novelty": state.novelty,
        "consolidations": state.cycle,
    }


def sheet(state: Centroids) -> list[Centroid]:
    """What a memory of one seed holds, centroid by centroid, LTM first."""
    table = jax.device_get(state.table)
    stm, total = table.stm, len(table.count)
    cards = []
    for row in [*range(stm, total), *range(stm)]:
        count = int(table.count[row])
        if count:
            held = table.place[row, :count]
            items = {name: np.asarray(x[held]) for name, x in state.items.items()}
            half = "ltm" if row >= stm else "stm"
            cards.append(Centroid(half, items, count, int(table.matches[row])))
    return cards
