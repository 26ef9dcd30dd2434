"""Several seeds of one experiment, carried through a chunk of stream batches.

Two carriers with the same functions on an opaque `states`:

* `on_mesh`: one program for all seeds and a whole chunk; the host waits once a chunk.
  Seeds are shared out over the mesh's axis `seed`. Those that share a device are
  vmapped, or gone through one after the other within the program: with weights of their
  own, vmapped convolutions become grouped ones, which few platforms run well.
* `in_turn`: a plain loop that calls the jitted step, the right form on one CPU device.

A seed that does not go on, since something of it is not finite, is left as it is by the
second; the first carries it along, to no effect on the others, for a branch in the
program would cost them all. Whatever is said of it afterwards means nothing.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from ocssl_jax.compiling import jit
from ocssl_jax.core import Array, Stream, TrainState
from ocssl_jax.mesh import SEED, everywhere, over_seeds, place
from ocssl_jax.step import Init, Metrics, Step


class Carrier(NamedTuple):
    """How the seeds of a run are carried. A feed is a Stream of arrays [t s ...]."""

    init: Callable[[Sequence[int], Stream], Any]  # seeds, feed -> states
    # states, feed, batches, which seeds go on -> states, metrics
    learn: Callable[[Any, Stream, int, Sequence[bool]], tuple[Any, Any]]
    metrics: Callable[[Any, int], list[list[Metrics]]]  # on the host, [batch][seed]
    split: Callable[[Any], list[TrainState]]
    join: Callable[[list[TrainState]], Any]  # inverse of split


def at(tree: Any, *index: int) -> Any:
    """The same entry of every leaf."""
    return jax.tree.map(lambda x: x[index], tree)


def in_turn(init: Init, step: Step) -> Carrier:
    """One seed after the other, one stream batch after the other."""
    init, step = jit(init), jit(step, donate_argnums=0)

    def start(seeds: Sequence[int], feed: Stream) -> list[TrainState]:
        pairs = enumerate(seeds)
        return [init(jax.random.key(seed), at(feed, 0, s)) for s, seed in pairs]

    def learn(
        states: list[TrainState], feed: Stream, batches: int, going: Sequence[bool]
    ) -> tuple[list[TrainState], list[list[Metrics]]]:
        seen: list[list[Metrics]] = []
        for t in range(batches):
            pairs = [
                step(state, at(feed, t, s)) if going[s] else (state, {})
                for s, state in enumerate(states)
            ]
            states = [state for state, _ in pairs]
            seen.append([metrics for _, metrics in pairs])
        return states, seen

    def metrics(seen: list[list[Metrics]], batches: int) -> list[list[Metrics]]:
        return jax.device_get(seen[:batches])

    return Carrier(start, learn, metrics, list, list)


def on_mesh(init: Init, step: Step, mesh: Mesh, *, vmap: bool) -> Carrier:
    """All seeds and a whole chunk in one program.

    Args:
      init: makes a seed's state.
      step: learns a stream batch.
      mesh: of the axes `seed` and `data`.
      vmap: whether seeds that share a device are vmapped; else in a loop.
    """
    sharded, shared = over_seeds(mesh), everywhere(mesh)

    def many(states: TrainState, streams: Stream) -> tuple[TrainState, Metrics]:
        if vmap:
            return jax.vmap(step)(states, streams)
        return jax.lax.map(lambda pair: step(*pair), (states, streams))

    def chunk(
        states: TrainState, feed: Stream, batches: Array
    ) -> tuple[TrainState, Metrics]:
        """As many of the feed's batches as asked for: one program for any number."""
        length = len(feed.mask)
        shapes = jax.eval_shape(many, states, at(feed, 0))[1]
        seen = jax.tree.map(lambda m: jnp.zeros((length, *m.shape), m.dtype), shapes)

        def body(t: Array, carry: Any) -> Any:
            states, seen = carry
            states, new = many(states, jax.tree.map(lambda x: x[t], feed))
            return states, jax.tree.map(lambda m, n: m.at[t].set(n), seen, new)

        return jax.lax.fori_loop(0, batches, body, (states, seen))

    manual = partial(jax.shard_map, mesh=mesh, axis_names={SEED}, check_vma=False)
    own, timed = P(SEED), P(None, SEED)
    learn = jit(
        manual(chunk, in_specs=(own, timed, P()), out_specs=(own, timed)),
        donate_argnums=0,
        out_shardings=(sharded, shared),
    )

    def one(pair: tuple[Array, Stream]) -> TrainState:
        data, stream = pair
        return init(jax.random.wrap_key_data(data), stream)

    begin = jit(
        manual(partial(jax.lax.map, one), in_specs=own, out_specs=own),
        out_shardings=sharded,
    )

    def start(seeds: Sequence[int], feed: Stream) -> TrainState:
        keys = [np.asarray(jax.random.key_data(jax.random.key(s))) for s in seeds]
        return begin(place((np.stack(keys), at(feed, 0)), sharded))

    def placed(
        states: TrainState, feed: Stream, batches: int, going: Sequence[bool]
    ) -> Any:
        del going  # all are carried along
        if (
            len(feed.mask) == 1
        ):  # XLA would make a program of its own of one batch, which
            feed = jax.tree.map(lambda x: np.repeat(x, 2, axis=0), feed)  # rounds anew
        count = place(np.int32(batches), shared)
        return learn(states, place(feed, over_seeds(mesh, 1)), count)

    def metrics(seen: Metrics, batches: int) -> list[list[Metrics]]:
        seen = jax.device_get(seen)
        seeds = len(seen["loss"][0])
        return [[at(seen, t, s) for s in range(seeds)] for t in range(batches)]

    @partial(jax.jit, out_shardings=shared)
    def split(states: TrainState) -> list[TrainState]:
        return [at(states, s) for s in range(len(states.step))]

    @partial(jax.jit, out_shardings=sharded)
    def join(states: list[TrainState]) -> TrainState:
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

    return Carrier(start, placed, metrics, split, join)


def carrier(init: Init, step: Step, mesh: Mesh, *, vmap: bool) -> Carrier:
    """The faster form on the mesh's devices."""
    alone = mesh.size == 1 and mesh.devices.flat[0].platform == "cpu"
    return in_turn(init, step) if alone else on_mesh(init, step, mesh, vmap=vmap)
