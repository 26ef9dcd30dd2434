"""Our side of a comparison, made in a process of its own.

Where both sides are to start from the same place, one more process writes it first.
"""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import cases, learners, memories, start
from benchmarks.workers import Side
from ocssl_jax import seeds
from ocssl_jax.compiling import jit
from ocssl_jax.memory import plain
from ocssl_jax.memory.centroids_consolidate import consolidate
from ocssl_jax.memory.centroids_state import Settings
from ocssl_jax.mesh import make_mesh

FEATURES = {"part_and_select": 512}  # it judges by the backbone's, others projections


def side(calls: Mapping[str, Callable[[], Any]]) -> Side:
    """Calls that return arrays of JAX, as calls that wait for them."""

    def waiting(call: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: jax.block_until_ready(call())

    kept = {name: waiting(call) for name, call in calls.items()}
    device = jax.devices()[0]
    return Side(device.device_kind, device.platform, kept, card_peak)


def card_peak() -> int:
    """Most bytes of the accelerator's memory in use so far; 0 on a CPU."""
    statistics = jax.devices()[0].memory_stats()
    return int((statistics or {}).get("peak_bytes_in_use", 0))


def beginning(fields: Mapping[str, Any], path: Path) -> Side:
    """No call: what both sides start from goes to `path` and beside it."""
    state = learners.started(learners.subject(cases.config_of(dict(fields))))
    start.save(path, start.arrays(state))
    start.save_state(start.ours(path), state)
    return side({})


def stream_batch(fields: Mapping[str, Any], path: Path) -> Side:
    """`step`: the jitted step, its state carried on from what `beginning` wrote."""
    subject = learners.subject(cases.config_of(dict(fields)))
    arriving = learners.arrivals(subject, 8)
    key = jax.eval_shape(lambda: jax.random.key(0))
    like = jax.eval_shape(subject.learning.init, key, arriving[0])
    state = start.saved_state(start.ours(path), like)
    step = jit(subject.learning.step, donate_argnums=0)
    batches = itertools.cycle(jax.device_get(arriving))

    def call() -> Any:
        nonlocal state
        state, metrics = step(state, jax.device_put(next(batches)))
        return state, metrics

    return side({"step": call})


def learnt(
    fields: Mapping[str, Any], path: Path, exact: bool, together: bool, length: int
) -> Side:
    """`chunk`: two seeds learn `length` stream batches; `write`: their log to `path`.

    Args:
      fields: the config, as JSON holds it.
      path: of an .npz file, name -> [batches seeds ...].
      exact: whether all products are in full float32, whatever the platform.
      together: whether seeds share the program of a chunk, else take turns.
      length: stream batches of a chunk.
    """
    if exact:
        jax.config.update("jax_default_matmul_precision", "highest")
    subject = learners.subject(cases.config_of(dict(fields)))
    learning, count = subject.learning, 2
    mesh = make_mesh(jax.devices()[:1], seeds=count, seed=1, data=1)
    carrier = (
        seeds.on_mesh(learning.init, learning.step, mesh, vmap=learning.vmap)
        if together
        else seeds.in_turn(learning.init, learning.step)
    )
    batches = iter(jax.device_get(learners.arrivals(subject, 8 * length * count)))

    def feed() -> Any:
        flat = jax.tree.map(
            lambda *x: np.stack(x), *itertools.islice(batches, length * count)
        )
        return jax.tree.map(lambda x: x.reshape(length, count, *x.shape[1:]), flat)

    states, log = carrier.init(range(count), feed()), []

    def chunk() -> Any:
        nonlocal states
        states, seen = carrier.learn(states, feed(), length, [True] * count)
        log.extend(carrier.metrics(seen, length))
        return states

    def write() -> None:
        rows = [jax.tree.map(lambda *x: np.stack(x), *per_seed) for per_seed in log]
        stacked = jax.tree.map(lambda *x: np.stack(x), *rows)
        np.savez(path, allow_pickle=False, **stacked)

    return side({"chunk": chunk, "write": write})


def climb_memory(fields: Mapping[str, Any], path: Path) -> Side:
    """The operations of CLIMB's memory; where it starts and its stream go to `path`."""
    config = cases.config_of(dict(fields))
    full = memories.full_climb(config)
    start.save(path, start.full_memory(full))
    # Due as the memory is: the budget is what it holds.
    s = Settings(
        budget=int(full.state.table.count.sum()),
        batch_size=config.stream.batch_size,
        **config.strategy.climb.centroid_memory.to_dict(),
    )

    def again(state: Any) -> Any:
        return consolidate(s, state, full.embed, jnp.bool(True))

    drawn, passes = config.strategy.replay_size, config.passes

    def batch(key: Any, state: Any, items: Any, z: Any, feature: Any) -> Any:
        """As a step does it: one program, which hands out the images drawn."""
        whole = jnp.ones(len(z), bool)
        state = full.memory.add(key, state, items, z, whole, embed=full.embed)
        images = []
        for k in jax.random.split(key, passes):
            rows = full.memory.sample(k, state, drawn)
            state = full.memory.refresh(state, rows.slot, feature, rows.mask)
            images.append(rows.items["image"])
        return state, images

    again, batch = (jax.jit(f, donate_argnames="state") for f in (again, batch))
    more = {
        "consolidate": lambda now: again(now["state"]),
        "batch": lambda now: batch(
            now["key"], now["state"], *now["batch"], now["rows"].feature
        ),
    }
    return operations(full, drawn, "process", more)


def plain_memory(name: str, fields: Mapping[str, Any]) -> Side:
    """The operations of one of `memory.PLAIN`."""
    strategy, rng = fields["strategy"], np.random.default_rng(0)
    width = min(FEATURES.get(name, 2**20), fields["method"]["projection"])
    memory = plain(
        name, strategy["memory_size"], feature_decay=strategy["feature_decay"]
    )
    stream = memories.stream_for(cases.config_of(dict(fields)), width)
    state = memories.fill_ranked(memories.first_state(memory, stream.batch(0)), rng)
    full = memories.Full(memory, state, stream, 0)
    return operations(full, strategy["replay_size"], "add", {})


def operations(
    full: memories.Full,
    drawn: int,
    add_name: str,
    others: Mapping[str, Callable[[dict[str, Any]], Any]],
) -> Side:
    """`prepare` brings back the full memory; the rest are timed from there."""
    memory, batches = full.memory, map(full.stream.batch, itertools.count(full.met))
    keys = map(jax.random.key, itertools.count())
    add = full.adding()
    sample = jax.jit(memory.sample, static_argnums=2)
    refresh = jax.jit(memory.refresh, donate_argnums=0)
    now: dict[str, Any] = {}

    def prepare() -> Any:
        state, key = memories.copied(full.state), next(keys)
        now.update(state=state, key=key, batch=next(batches))
        now["rows"] = rows = sample(key, full.state, drawn)
        return state, rows

    def refreshed() -> Any:
        rows = now["rows"]
        return refresh(now["state"], rows.slot, rows.feature, rows.mask)

    calls = {
        "prepare": prepare,
        add_name: lambda: add(now["key"], now["state"], *now["batch"]),
        "sample": lambda: sample(now["key"], now["state"], drawn),
        "refresh": refreshed,
    }
    more = {name: lambda f=f: f(now) for name, f in others.items()}
    return side(calls | more)
