"""Times the memories' calls at the papers' sizes and prints a table.

python benchmarks/memory.py [--repeats 20] [--width 2048] [--image 32]

Milliseconds a call: median [fastest]. A stream batch of 10; 128 rows drawn; CLIMB's
memory has 100 + 60 centroids of 30 images and is timed full, between consolidations.
`consolidate` re-encodes what is stored with an encoder that costs next to nothing, so
it measures the memory's own part.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ocssl_jax.memory import MEMORIES

sys.path.insert(0, str(Path(__file__).parents[1]))  # where configs/ lies
from configs import default

BATCH, REPLAY, BUDGET = 10, 128, 2500
CENTROIDS = default.climb().centroid_memory.to_dict() | {
    "budget": BUDGET,
    "batch_size": BATCH,
}


def stream(rng, centre, image: int, width: int) -> tuple[dict, jax.Array]:
    """A batch of random images whose features are clustered around `centre` [k d]."""
    pixels = rng.integers(0, 256, (BATCH, image, image, 3), dtype=np.uint8)
    items = {"image": pixels, "id": np.arange(BATCH, dtype=np.int32)}
    near = centre[rng.integers(0, len(centre), BATCH)]
    noise = rng.normal(size=(BATCH, width)).astype(np.float32)
    return jax.device_put((items, near + 0.7 * noise))


def clock(call: Callable, repeats: int) -> str:
    times = []
    for i in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call(i))
        times.append(1e3 * (time.perf_counter() - start))
    times = times[1:]  # the first one compiles
    return f"{statistics.median(times):7.2f} [{min(times):6.2f}]"


def measure(name: str, repeats: int, width: int, image: int) -> dict[str, str]:
    rng = np.random.default_rng(0)
    make = MEMORIES[name]
    is_climb = name == "centroids"
    memory = make(**CENTROIDS) if is_climb else make(BUDGET, feature_decay=0.5)
    centre = rng.normal(size=(80, width)).astype(np.float32)
    batches = [stream(rng, centre, image, width) for _ in range(50)]
    mask = jnp.ones(BATCH, bool)
    project = jnp.asarray(rng.normal(size=(3, width)), jnp.float32)

    def embed(images):
        return images.mean(axis=(1, 2)).astype(jnp.float32) @ project

    @jax.jit
    def add(key, state, items, feature):
        return memory.add(key, state, items, feature, mask, embed=embed)

    add = jax.jit(add, donate_argnums=1)
    refresh = jax.jit(memory.refresh, donate_argnums=0)
    sample = jax.jit(memory.sample, static_argnums=2)
    items, feature = batches[0]
    one = jax.tree.map(lambda x: x[0], (items, feature))
    state, key = memory.init(*one), jax.random.key(0)
    full = lambda s: int(memory.size(s)) > (BUDGET - 400 if is_climb else BUDGET - 1)
    i = 0
    while not full(state) and i < 2000:
        state = add(jax.random.fold_in(key, i), state, *batches[i % 50])
        i += 1

    def adding(i):
        nonlocal state
        state = add(jax.random.fold_in(key, i), state, *batches[i % 50])
        return state

    row = {"held": f"{int(memory.size(state)):5d}", "add": clock(adding, repeats)}
    if is_climb:
        row["consolidations meanwhile"] = str(int(state.cycle))
    row["sample"] = clock(
        lambda i: sample(jax.random.fold_in(key, i), state, REPLAY), repeats
    )
    drawn = sample(key, state, REPLAY)

    def refreshing(i):
        nonlocal state
        del i
        state = refresh(state, drawn.slot, drawn.feature, drawn.mask)
        return state

    row["refresh"] = clock(refreshing, repeats)
    if is_climb:
        row["consolidate"] = consolidation(embed, state, repeats)
    return row


def consolidation(embed: Callable, state, repeats: int) -> str:
    """Time of `consolidate` on copies of `state`, with the budget already reached."""
    from ocssl_jax.memory.centroids_consolidate import consolidate
    from ocssl_jax.memory.centroids_state import Settings

    settings = Settings(**CENTROIDS)._replace(budget=int(state.table.count.sum()))
    run = jax.jit(lambda s: consolidate(settings, s, embed, jnp.bool(True)).table)
    return clock(lambda i: run(state), repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--image", type=int, default=32)
    parser.add_argument("--memories", nargs="*", default=list(MEMORIES))
    args = parser.parse_args()
    print(f"{jax.devices()[0].device_kind}, features {args.width}, ms a call")
    for name in args.memories:
        row = measure(name, args.repeats, args.width, args.image)
        print(f"{name:10s}", *(f"{k}: {v}" for k, v in row.items()), sep="  ")


if __name__ == "__main__":
    main()
