"""Several seeds of one experiment, carried through a chunk of stream batches.

A run asks for `Work`, and whoever drives it has it done: `alone`, or the siblings of a
sweep side by side. Two carriers with the same functions on an opaque `states`:

* `on_mesh`: one program for all seeds and a whole chunk; the host waits once a chunk.
  Seeds are shared out over the mesh's axis `seed`. Those that share a device are
  vmapped, or gone through one after the other within the program: with weights of their
  own, vmapped convolutions become grouped ones, which few platforms run well.
* `in_turn`: a plain loop that calls the jitted step, the right form on one CPU device.

A seed that does not go on, since something of it is not finite, is left as it is by the
second; the first carries it along, to no effect on the others, for a branch in the
program would cost them all. Whatever is said of it afterwards means nothing.
"""

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from ocssl_jax.compiling import jit, once
from ocssl_jax.core import Array, Stream, TrainState
from ocssl_jax.learning import Learning
from ocssl_jax.mesh import SEED, everywhere, over_seeds, place
from ocssl_jax.step import Init, Metrics, Step

T = TypeVar("T")


class Carrier(NamedTuple):
    """How the seeds of a run are carried. A feed is a Stream of arrays [t s ...]."""

    init: Callable[[Sequence[int], Stream], Any]  # seeds, feed -> states
    # states, feed, batches, which seeds go on -> states, metrics
    learn: Callable[[Any, Stream, int, Sequence[bool]], tuple[Any, Any]]
    metrics: Callable[[Any, int], list[list[Metrics]]]  # on the host, [batch][seed]
    split: Callable[[Any], list[TrainState]]
    join: Callable[[list[TrainState]], Any]  # inverse of split
    beside: Any = None  # of siblings, who learn together and by which numbers


class Work(NamedTuple):
    """A chunk that a run wants learnt; the answer is that of `carrier.learn`."""

    carrier: Carrier
    states: Any
    feed: Stream
    batches: int
    going: Sequence[bool]

    def done(self) -> tuple[Any, Any]:
        """States and metrics after it; the states before are used up."""
        return self.carrier.learn(self.states, self.feed, self.batches, self.going)


Working = Generator[Work, tuple[Any, Any], T]  # what a run does, and ends with


def alone(working: Working[T]) -> T:
    """Do all that a run asks for, as it comes; what it ends with."""
    try:
        work = next(working)
        while True:
            work = working.send(work.done())
    except StopIteration as end:
        return end.value


def at(tree: Any, *index: int) -> Any:
    """The same entry of every leaf."""
    return jax.tree.map(lambda x: x[index], tree)


def in_turn(init: Init, step: Step) -> Carrier:
    """One seed after the other, one stream batch after the other."""
    return turning(once(init), jit(step, donate_argnums=0))


def turning(init: Init, step: Step) -> Carrier:
    """`in_turn` of functions that are jitted already; the step donates its state."""

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
    sharded = over_seeds(mesh)

    def one(pair: tuple[Array, Stream]) -> TrainState:
        data, stream = pair
        return init(jax.random.wrap_key_data(data), stream)

    begin = once(
        _manual(partial(jax.lax.map, one), mesh, in_specs=P(SEED), out_specs=P(SEED)),
        out_shardings=sharded,
    )

    def start(seeds: Sequence[int], feed: Stream) -> TrainState:
        keys = [np.asarray(jax.random.key_data(jax.random.key(s))) for s in seeds]
        return begin(place((np.stack(keys), at(feed, 0)), sharded))

    return Carrier(start, *chunks(step, mesh, vmap=vmap))


def _manual(function: Callable[..., Any], mesh: Mesh, **specs: Any) -> Any:
    """A function of what each device has of the axis of seeds."""
    return jax.shard_map(
        function, mesh=mesh, axis_names={SEED}, check_vma=False, **specs
    )


class Chunks(NamedTuple):
    """A `Carrier` but for its beginning."""

    learn: Callable[[Any, Stream, int, Sequence[bool]], tuple[Any, Any]]
    metrics: Callable[[Any, int], list[list[Metrics]]]
    split: Callable[[Any], list[Any]]
    join: Callable[[list[Any]], Any]


def chunks(step: Callable[..., Any], mesh: Mesh, *, vmap: bool) -> Chunks:
    """How members [s ...] are carried through a chunk on a mesh, as `on_mesh` has it.

    A member is what `step` takes and gives back: a seed's state, and maybe more.
    """
    sharded, shared = over_seeds(mesh), everywhere(mesh)

    def many(members: Any, streams: Stream) -> tuple[Any, Metrics]:
        if vmap:
            return jax.vmap(step)(members, streams)
        return jax.lax.map(lambda pair: step(*pair), (members, streams))

    def chunk(members: Any, feed: Stream, batches: Array) -> tuple[Any, Metrics]:
        """As many of the feed's batches as asked for: one program for any number."""
        length = len(feed.mask)
        shapes = jax.eval_shape(many, members, at(feed, 0))[1]
        seen = jax.tree.map(lambda m: jnp.zeros((length, *m.shape), m.dtype), shapes)

        def body(t: Array, carry: Any) -> Any:
            members, seen = carry
            members, new = many(members, jax.tree.map(lambda x: x[t], feed))
            return members, jax.tree.map(lambda m, n: m.at[t].set(n), seen, new)

        return jax.lax.fori_loop(0, batches, body, (members, seen))

    own, timed = P(SEED), P(None, SEED)
    program = jit(
        _manual(chunk, mesh, in_specs=(own, timed, P()), out_specs=(own, timed)),
        donate_argnums=0,
        out_shardings=(sharded, shared),
    )

    def learn(
        members: Any, feed: Stream, batches: int, going: Sequence[bool]
    ) -> tuple[Any, Metrics]:
        del going  # all are carried along
        if (
            len(feed.mask) == 1
        ):  # XLA would make a program of its own of one batch, which
            feed = jax.tree.map(lambda x: np.repeat(x, 2, axis=0), feed)  # rounds anew
        count = place(np.int32(batches), shared)
        return program(members, place(feed, over_seeds(mesh, 1)), count)

    def metrics(seen: Metrics, batches: int) -> list[list[Metrics]]:
        seen = jax.device_get(seen)
        seeds = len(seen["loss"][0])
        return [[at(seen, t, s) for s in range(seeds)] for t in range(batches)]

    @partial(jax.jit, out_shardings=shared)
    def split(members: Any) -> list[Any]:
        return [at(members, s) for s in range(len(jax.tree.leaves(members)[0]))]

    @partial(jax.jit, out_shardings=sharded)
    def join(members: list[Any]) -> Any:
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)

    return Chunks(learn, metrics, split, join)


def turns(mesh: Mesh) -> bool:
    """Whether seeds go one after the other on these devices: on one of a CPU."""
    return mesh.size == 1 and mesh.devices.flat[0].platform == "cpu"


class Carriers(NamedTuple):
    """A run's, through stream batches that are learnt and through those before."""

    learning: Carrier
    passing: Carrier


def carrier(init: Init, step: Step, mesh: Mesh, *, vmap: bool) -> Carrier:
    """The faster form on the mesh's devices."""
    return in_turn(init, step) if turns(mesh) else on_mesh(init, step, mesh, vmap=vmap)


def carriers(learning: Learning, mesh: Mesh) -> Carriers:
    """A run's own."""
    made = partial(carrier, learning.init, mesh=mesh, vmap=learning.vmap)
    return Carriers(made(learning.step), made(learning.passing))
