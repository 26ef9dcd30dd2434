"""SCALE's memory (Yu et al. 2023): images spread evenly over the feature space.

When batch and memory together exceed N, all are embedded anew and the Part-and-Select
algorithm (Salomon et al. 2013) chooses who stays:

  split the cluster whose bounding box is longest, halfway along that side, N - 1 times
  keep of each cluster the member nearest to the centre of its box

A part's box lies inside its parent's, so lengths never grow down the tree and the order
of the splits is that of their lengths. All clusters are therefore split at once, level
by level down to single points, and the N - 1 longest splits are the algorithm's.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ocssl_jax.core import Array, Embed, Memory
from ocssl_jax.memory.base import Ranked
from ocssl_jax.memory.fifo import fifo, without

CHUNK = 128  # images encoded at a time


class Tree(NamedTuple):
    """Clusters 0 .. m - 1, the leaves of the splits so far; m is nobody's."""

    cluster: Array  # [m] int32, of each point
    parent: Array  # [m] int32, the cluster that each one was split from
    length: Array  # [m] float32, of the side then cut; inf for 0, -inf: not made
    made: Array  # [] int32, clusters so far
    grown: Array  # [] bool, the last level split something


def boxes(points: Array, cluster: Array) -> tuple[Array, Array]:
    """Lowest and highest corner [m d] of each cluster of `points` [m d]."""
    m, d = points.shape
    both = jnp.concatenate([-points, points], axis=1)
    top = jax.ops.segment_max(both, cluster, num_segments=m)
    return -top[:, :d], top[:, d:]


def split(points: Array, tree: Tree) -> Tree:
    """Cuts every cluster that has an extent; its upper part becomes a new cluster."""
    m = len(points)
    low, high = boxes(points, tree.cluster)
    side = jnp.argmax(high - low, axis=1)
    along = lambda x: jnp.take_along_axis(x, side[:, None], axis=1)[:, 0]
    start, length = along(low), along(high - low)
    due = (length > 0) & (length < jnp.inf)  # a point, or equal ones, are never cut
    new = jnp.where(due, tree.made + jnp.cumsum(due) - 1, m).astype(jnp.int32)

    mine = jnp.minimum(tree.cluster, m - 1)
    value = jnp.take_along_axis(points, side[mine][:, None], axis=1)[:, 0]
    upper = (value >= (start + length / 2)[mine]) & (value > start[mine])
    moves = upper & due[mine] & (tree.cluster < m)
    return Tree(
        cluster=jnp.where(moves, new[mine], tree.cluster),
        parent=tree.parent.at[new].set(jnp.arange(m, dtype=jnp.int32), mode="drop"),
        length=tree.length.at[new].set(length, mode="drop"),
        made=tree.made + jnp.sum(due, dtype=jnp.int32),
        grown=jnp.any(due),
    )


def part(points: Array, valid: Array, clusters: int) -> Array:
    """[m] int32: the cluster of each of `points` [m d], m where not `valid` [m].

    As many clusters as asked for, or fewer if fewer points differ; their numbers are in
    0 .. m - 1.
    """
    m = len(points)
    tree = Tree(
        cluster=jnp.where(valid, 0, m).astype(jnp.int32),
        parent=jnp.zeros(m, jnp.int32),
        length=jnp.full(m, -jnp.inf).at[0].set(jnp.inf),
        made=jnp.int32(1),
        grown=jnp.bool(True),
    )
    tree = jax.lax.while_loop(lambda t: t.grown, lambda t: split(points, t), tree)
    # Stable: of equally long sides the older cluster's comes first, parents so too.
    longest = jnp.argsort(tree.length, descending=True, stable=True)[:clusters]
    kept = jnp.zeros(m, bool).at[longest].set(True)
    # Undo the other splits: hand points to the next kept ancestor, in doubled strides.
    heir = jnp.where(kept, jnp.arange(m, dtype=jnp.int32), tree.parent)
    for _ in range(m.bit_length()):
        heir = heir[heir]
    return jnp.where(valid, heir[jnp.minimum(tree.cluster, m - 1)], m)


def select(points: Array, cluster: Array) -> Array:
    """[m] bool: of each cluster the member nearest to its box's centre, first if tied.

    Args:
      points: [m d] float32.
      cluster: [m] int32 in 0 .. m - 1, or m for rows that do not count.
    """
    m = len(points)
    low, high = boxes(points, cluster)
    mine, row = jnp.minimum(cluster, m - 1), jnp.arange(m)
    # Twice the way to the centre, written so that the two members of a pair, which are
    # equally far, tie in every bit.
    away = (points - low[mine]) - (high[mine] - points)
    far = jnp.sum(jnp.square(away), axis=1)
    nearest = jax.ops.segment_min(far, cluster, num_segments=m)[mine]
    candidate = jnp.where(far == nearest, row, m)
    first = jax.ops.segment_min(candidate, cluster, num_segments=m)[mine]
    return (cluster < m) & (row == first)


def encode(images: Array, embed: Embed, example: Array, due: Array) -> Array:
    """Embeddings [n d] of `images` [n h w c], a chunk at a time; zeros if not `due`.

    The loop runs zero times while nothing is due. That is a `cond` that survives
    `vmap`. The last chunk ends with the images and overlaps the one before.

    Args:
      images: uint8.
      embed: uint8 [m h w c] -> float32 [m d].
      example: [... d], for the width.
      due: [] bool.
    """
    n = len(images)
    chunk = min(CHUNK, n)

    def body(i: Array, z: Array) -> Array:
        rows = jax.lax.dynamic_slice_in_dim(images, i * chunk, chunk)
        new = embed(rows).astype(z.dtype)
        return jax.lax.dynamic_update_slice_in_dim(z, new, i * chunk, axis=0)

    chunks = jnp.where(due, -(-n // chunk), 0)
    return jax.lax.fori_loop(0, chunks, body, jnp.zeros((n, example.shape[-1])))


def part_and_select(capacity: int, *, feature_decay: float) -> Memory:
    """The `capacity` images that Part-and-Select keeps; see `base.ranked`.

    `add` judges by `embed`, not by the features kept beside the images. Where fewer
    than `capacity` images differ, others fill up, stored ones first.
    """
    kept = fifo(capacity, feature_decay=feature_decay)

    def add(key, state, items, feature, mask, *, embed):
        stays = survivors(state, items["image"], mask, embed)
        room = without(state, ~stays[:capacity])
        return kept.add(key, room, items, feature, stays[capacity:], embed=embed)

    def survivors(state: Ranked, images: Array, mask: Array, embed: Embed) -> Array:
        """[N + b] bool: who of the stored and the new rows is kept."""
        held = kept.rows(state)[1]
        valid = jnp.concatenate([held, mask])
        due = jnp.sum(valid) > capacity
        fresh = embed(images).astype(jnp.float32)
        stored = encode(state.items["image"], embed, fresh, due)
        points = jnp.concatenate([stored, fresh])
        chosen = select(points, part(points, valid & due, capacity))
        wanted = jnp.where(chosen, 0, jnp.where(valid, 1, 2))
        best = jnp.argsort(wanted, stable=True)[:capacity]
        return valid & jnp.zeros(len(valid), bool).at[best].set(True)

    return kept._replace(add=add)
