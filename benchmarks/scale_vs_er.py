"""Times a stream batch of SCALE beside ER's, with full memories, and prints both.

    python benchmarks/scale_vs_er.py [--batches 10] [--config.strategy.replay_size=40]

Sizes are those of configs/small_cifar100.py (convnet, 10 + 40 images, 3 passes, 500
images in memory), images random, one seed. `scale, fifo` replays from a FIFO: the
difference to `scale` is what Part-and-Select costs, re-encoding the memory included.
Seconds a stream batch: median [fastest .. slowest] of interleaved runs, by the clock
and of the processor, which a busy machine disturbs less.
"""

import dataclasses
import statistics
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import config_flags

sys.path.insert(0, str(Path(__file__).parents[1]))  # where configs/ lies
from configs import small_cifar100
from ocssl_jax import settings
from ocssl_jax.build import make_learning
from ocssl_jax.core import Stream
from ocssl_jax.memory.base import Ranked

CONFIG = config_flags.DEFINE_config_dict("config", small_cifar100.get_config("er"))
BATCHES = flags.DEFINE_integer("batches", 10, "timed stream batches of each", 1)
SHAPE = (32, 32, 3)
RUNS = {
    "er": {"strategy.name": "er"},
    "scale, fifo": {"strategy.name": "scale", "strategy.scale.memory": "fifo"},
    "scale": {"strategy.name": "scale"},
}


def arrival(rng, size):
    return Stream(
        image=jnp.asarray(rng.integers(0, 256, (size, *SHAPE), np.uint8)),
        id=jnp.zeros(size, jnp.int32),
        mask=jnp.ones(size, bool),
        boundary=jnp.bool(False),
    )


def filled(rng, memory):
    """The memory's state as if it had seen N random images."""
    image = memory.items["image"]
    noise = jnp.asarray(rng.integers(0, 256, image.shape, np.uint8))
    rank = -jnp.arange(len(memory.rank), dtype=memory.rank.dtype)
    items = {**memory.items, "image": noise}
    return dataclasses.replace(memory, items=items, rank=rank)


def learner(config, fields, rng):
    """The jitted step and a state whose memory is full."""
    config = config.copy_and_resolve_references()
    for name, value in fields.items():
        settings.put(config, name, value)
    config = settings.resolve(config, fields)
    learning = make_learning(config, shape=SHAPE, mean=(0.5,) * 3, std=(0.25,) * 3)
    size = config.stream.batch_size
    state = jax.jit(learning.init)(jax.random.key(0), arrival(rng, size))
    is_memory = lambda x: isinstance(x, Ranked)
    strategy = jax.tree.map(
        lambda x: filled(rng, x) if is_memory(x) else x,
        state.strategy,
        is_leaf=is_memory,
    )
    step = jax.jit(learning.step, donate_argnums=0)
    return step, dataclasses.replace(state, strategy=strategy), size


def main(_) -> None:
    rng = np.random.default_rng(0)
    learners = {name: learner(CONFIG.value, f, rng) for name, f in RUNS.items()}
    states = {name: state for name, (_, state, _) in learners.items()}
    times = {name: [] for name in RUNS}
    for i in range(BATCHES.value + 2):
        for name, (step, _, size) in learners.items():
            batch = arrival(rng, size)
            start = np.array([time.perf_counter(), time.process_time()])
            states[name], _ = jax.block_until_ready(step(states[name], batch))
            end = np.array([time.perf_counter(), time.process_time()])
            if i >= 2:  # the first compiles, the second warms up
                times[name].append(end - start)
    print(jax.devices()[0].device_kind)
    for i, clock in enumerate(("wall", "processor")):
        er = statistics.median(t[i] for t in times["er"])
        for name, rows in times.items():
            t = [row[i] for row in rows]
            middle = statistics.median(t)
            print(
                f"{clock:9s} {name:12s} {middle:7.3f} s [{min(t):.3f} .. {max(t):.3f}]"
                f"  {middle / er:.2f} x er"
            )


if __name__ == "__main__":
    app.run(main)
