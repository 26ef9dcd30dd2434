"""Checkpoints come back whole, and refuse in words what does not fit."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import equal

from ocssl_jax.checkpoint import Checkpoints
from ocssl_jax.core import TrainState
from ocssl_jax.errors import StorageError, UsageError


def states(value, *, seeds=2, dtype=jnp.float32, width=3, extra=()):
    return [
        TrainState(
            key=jax.random.key(seed),
            step=jnp.int32(value),
            params={"method": {"w": jnp.full((width,), value + seed, dtype)}},
            model={"stats": jnp.zeros(2)},
            strategy=(jnp.asarray([True, False]), jnp.uint8(value), *extra),
            opt_state=((), jnp.arange(4)),
        )
        for seed in range(seeds)
    ]


@pytest.fixture
def folder(tmp_path):
    saved = Checkpoints(tmp_path / "checkpoints", keep=2)
    for step in (3, 5, 8):
        saved.save(step, states(step), {"trained": step})
    saved.close()
    return tmp_path / "checkpoints"


def test_the_newest_comes_back_bit_for_bit_in_a_new_manager(folder):
    again = Checkpoints(folder, keep=2)
    assert again.latest() == 8
    found, progress = again.restore(states(0))
    assert progress == {"trained": 8}
    for a, b in zip(found, states(8), strict=True):
        assert equal(a, b)
    assert sorted(p.name for p in folder.iterdir() if p.name.isdigit()) == ["5", "8"]


def test_a_step_is_written_once(folder):
    again = Checkpoints(folder, keep=2)
    again.save(8, states(99), {"trained": 99})
    again.wait()
    assert again.restore(states(0))[1] == {"trained": 8}


def test_a_full_disk_is_told_in_one_line(folder, monkeypatch):
    again = Checkpoints(folder, keep=2)

    def full(*_, **__):
        raise ValueError("RESOURCE_EXHAUSTED: No space left on device\nmore")

    monkeypatch.setattr(again._manager, "save", full)
    with pytest.raises(
        StorageError, match=r"No space left.*last good one is 8"
    ) as error:
        again.save(9, states(9), {})
    assert "\n" not in str(error.value)


def test_left_overs_of_a_kill_are_ignored_and_removed(folder):
    left = folder / "9.orbax-checkpoint-tmp"
    left.mkdir()
    again = Checkpoints(folder, keep=2)
    assert again.latest() == 8
    end = time.monotonic() + 30
    while left.exists() and time.monotonic() < end:  # removed in the background
        time.sleep(0.01)
    assert not left.exists()


@pytest.mark.parametrize(
    ("like", "words"),
    [
        (lambda: states(0, dtype=jnp.bfloat16), "float32, this run needs bfloat16"),
        (lambda: states(0, width=4), "shape"),
        (lambda: states(0, seeds=3), "structures do not match"),
        (lambda: states(0, extra=(jnp.zeros(1),)), "structures do not match"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(folder, like, words):
    again = Checkpoints(folder, keep=2)
    with pytest.raises(UsageError, match=words) as error:
        again.restore(like())
    assert "\n" not in str(error.value)
    assert str(folder / "8") in str(error.value)


@pytest.mark.parametrize("size", [0, 50])
def test_a_damaged_checkpoint_is_refused_in_one_line(folder, size):
    rng = np.random.default_rng(0)
    files = [p for p in (folder / "8").rglob("*") if p.is_file()]
    for file in rng.permutation(np.asarray(files, object)):
        if file.stat().st_size > size:
            with file.open("r+b") as f:
                f.truncate(size)
    with pytest.raises(UsageError, match="cannot be restored") as error:
        Checkpoints(folder, keep=2).restore(states(0))
    assert "\n" not in str(error.value)
