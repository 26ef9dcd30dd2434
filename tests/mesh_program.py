"""Learns on a mesh of 8 virtual devices and prints how far that is from one device.

python tests/mesh_program.py STRATEGY METHOD BACKBONE
"""

import json
import sys

import conftest  # noqa: F401  the settings of every test
import jax
import numpy as np
from test_seeds import BATCHES, SEEDS, bits, carried
from tiny import tiny_learning

from ocssl_jax import seeds
from ocssl_jax.mesh import make_mesh

CHUNKS = ((0, 3), (3, BATCHES))


def distance(ours, theirs):
    """Largest difference of two runs' states and losses, over 1 + their size."""
    found = [
        np.max(np.abs(a - b) / (1 + np.abs(b)), initial=0)
        for state, other in zip(ours[0], theirs[0], strict=True)
        for a, b in zip(bits(state), bits(other), strict=True)
        if a.dtype.kind == "f"
    ]
    same = all(
        np.array_equal(a, b)
        for state, other in zip(ours[0], theirs[0], strict=True)
        for a, b in zip(bits(state), bits(other), strict=True)
        if a.dtype.kind != "f"
    )
    for name in ours[1][0][0]:
        logs = [[[m[name] for m in row] for row in run[1]] for run in (ours, theirs)]
        found.append(np.max(np.abs(np.subtract(*logs)) / (1 + np.abs(logs[1]))))
    return {"floats": float(max(found)), "integers_equal": same}


def main() -> None:
    strategy, method, backbone = sys.argv[1:]
    learning = tiny_learning(
        strategy__name=strategy,
        method__name=method,
        backbone__name=backbone,
        optimizer__learning_rate=1e-5,  # a large one blows rounding up, step by step
    )
    devices = jax.devices()
    assert len(devices) == 8
    alone = carried(seeds.in_turn(learning.init, learning.step), CHUNKS)
    mesh = make_mesh(devices, seeds=len(SEEDS), seed=2, data=4)
    vmap = backbone == "mlp"
    carrier = seeds.on_mesh(learning.init, learning.step, mesh, vmap=vmap)
    print(json.dumps(distance(carried(carrier, CHUNKS), alone)))


if __name__ == "__main__":
    main()
