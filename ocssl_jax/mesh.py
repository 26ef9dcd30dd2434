"""Devices: one mesh of two axes, and what of a run lies where.

`seed`: whole learners, which never talk to each other. `data`: the rows of each
augmented batch; XLA makes batch statistics, similarities and gradients global, so that
a sharded step computes what one device does.
"""

from collections.abc import Sequence
from math import gcd
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ocssl_jax.core import Array
from ocssl_jax.errors import UsageError

SEED, DATA = "seed", "data"


def make_mesh(
    devices: Sequence[jax.Device], *, seeds: int, seed: int, data: int
) -> Mesh:
    """The mesh of a run.

    Args:
      devices: all of them, of all processes.
      seeds: of the run.
      seed: devices that share out the seeds; 0: as many as divide both.
      data: devices that share out each batch; 0: all that are left.

    Raises:
      UsageError: if the axes do not use every device, or do not divide the seeds.
    """
    n = len(devices)
    if not seed:
        free = n // data if data and n % data == 0 else n
        seed = gcd(seeds, free)
    data = data or max(n // seed, 1)
    if seed * data != n or seeds % seed:
        raise UsageError(
            f"config.mesh: seed x data must be the number of devices, {n}, and seed "
            f"divide the seeds, {seeds}; got {seed} x {data}. 0 chooses"
        )
    grid = np.asarray(devices).reshape(seed, data)
    return Mesh(grid, (SEED, DATA), axis_types=(AxisType.Auto, AxisType.Auto))


def over_seeds(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Axis `axis` of each leaf is that of the seeds."""
    return NamedSharding(mesh, P(*[None] * axis, SEED))


def everywhere(mesh: Mesh) -> NamedSharding:
    """Each device has all of it."""
    return NamedSharding(mesh, P())


def place(tree: Any, sharding: NamedSharding) -> Any:
    """Host arrays, the same in every process, as global arrays.

    No process talks to another; each copies to its devices what these need.
    """

    def put(x: Any) -> Array:
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda i: x[i])

    return jax.tree.map(put, tree)


def over_data(views: Array) -> Array:
    """Rows of `views` [v n ...] shared out over the axis `data`, if there is one.

    To be called in a program that runs on a mesh; elsewhere it changes nothing.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if DATA not in mesh.axis_names or mesh.shape[DATA] == 1:
        return views
    return jax.lax.with_sharding_constraint(views, P(None, DATA))
