"""Devices: how seeds and rows are shared out, and that nothing is lost by it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from devices import xla_flags

from ocssl_jax.errors import UsageError
from ocssl_jax.mesh import make_mesh, over_data

TESTS = Path(__file__).parent
ROWS = [
    # Batch statistics, similarities, cross-correlations, and the centroids' memory.
    ("climb", "simclr", "mlp"),
    pytest.param(("er", "barlow_twins", "convnet"), marks=pytest.mark.slow),
]


@pytest.mark.timeout(280)
@pytest.mark.parametrize("row", ROWS)
def test_eight_devices_learn_what_one_learns(row):
    done = subprocess.run(
        [sys.executable, TESTS / "mesh_program.py", *row],
        env={**os.environ, "XLA_FLAGS": xla_flags(8), "PYTHONPATH": str(TESTS.parent)},
        capture_output=True,
        text=True,
        timeout=270,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["integers_equal"] and found["floats"] < 5e-4, found


@pytest.mark.parametrize(
    ("devices", "seeds", "asked", "shape"),
    [
        (1, 3, (0, 0), (1, 1)),
        (8, 3, (0, 0), (1, 8)),
        (8, 2, (0, 0), (2, 4)),
        (8, 16, (0, 0), (8, 1)),
        (6, 4, (0, 0), (2, 3)),
        (8, 4, (0, 8), (1, 8)),
        (8, 4, (0, 4), (2, 4)),
        (8, 4, (2, 0), (2, 4)),
        (8, 4, (4, 2), (4, 2)),
    ],
)
def test_devices_are_shared_out(devices, seeds, asked, shape):
    stand_ins = jax.devices()[:1] * devices
    mesh = make_mesh(stand_ins, seeds=seeds, seed=asked[0], data=asked[1])
    assert (mesh.shape["seed"], mesh.shape["data"]) == shape


@pytest.mark.parametrize("asked", [(3, 0), (0, 3), (8, 1), (2, 2), (4, 4), (16, 0)])
def test_a_mesh_that_cannot_be_is_refused(asked):
    words = "seed x data must be the number of devices, 8, and seed divide the seeds, 4"
    with pytest.raises(UsageError, match=words):
        make_mesh(jax.devices()[:1] * 8, seeds=4, seed=asked[0], data=asked[1])


def test_without_a_mesh_rows_stay_where_they_are():
    views = jnp.ones((2, 3, 1))
    np.testing.assert_array_equal(jax.jit(over_data)(views), views)
    assert "sharding" not in str(jax.make_jaxpr(over_data)(views))
