"""Points of a sweep that learn together: one after the other, or side by side.

On one device of a CPU siblings share what is compiled and learn in turn. Elsewhere they
are an axis beside the seeds: whatever those that are under way ask for at the same time
is one call of one program.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ocssl_jax import dotted
from ocssl_jax.build import Experiment
from ocssl_jax.compiling import jit, once
from ocssl_jax.core import Stream, TrainState
from ocssl_jax.mesh import everywhere, make_mesh
from ocssl_jax.seeds import Carrier, Carriers, Work, at, chunks, turning, turns
from ocssl_jax.siblings import Numbers, numbers_of, program_of
from ocssl_jax.step import Init, Metrics


class Together:
    """Siblings on a mesh: what they ask for at the same time is one call."""

    def __init__(self, step: Callable[..., Any], mesh: Mesh, *, size: int, vmap: bool):
        """Nothing is compiled yet.

        Args:
          step: of a `Program`.
          mesh: of the axes `seed` and `data`.
          size: members, the seeds of all siblings; where fewer ask, copies of the last
            fill up, for another number of members were another program.
          vmap: whether those that share a device are vmapped.
        """

        def member(pair: Any, stream: Stream) -> tuple[Any, Metrics]:
            numbers, state = pair
            state, metrics = step(numbers, state, stream)
            return (numbers, state), metrics

        self.mesh, self.size = mesh, size
        self.chunks = chunks(member, mesh, vmap=vmap)

    def learn(self, asked: Sequence[tuple[Numbers, Work]]) -> list[tuple[Any, Any]]:
        """The answer to each piece of work; all are of as many batches."""
        members = [(numbers, s) for numbers, work in asked for s in work.states]
        feeds, lack = [work.feed for _, work in asked], self.size - len(members)
        feeds += [jax.tree.map(lambda x: x[:, -1:], feeds[-1])] * lack
        feed = jax.tree.map(lambda *x: np.concatenate(x, axis=1), *feeds)
        joined = self.chunks.join(members + members[-1:] * lack)
        batches = asked[0][1].batches
        joined, seen = self.chunks.learn(joined, feed, batches, [True] * self.size)
        states = [state for _, state in self.chunks.split(joined)]

        def own(stop: int, seeds: int) -> tuple[Any, Any]:
            mine = slice(stop - seeds, stop)
            return states[mine], jax.tree.map(lambda x: x[:, mine], seen)

        seeds = [len(work.states) for _, work in asked]
        return [*map(own, accumulate(seeds), seeds)]

    def carrier(self, init: Init, numbers: Numbers) -> Carrier:
        """One of the siblings; its states are a list, one a seed."""
        shared = everywhere(self.mesh)

        def start(seeds: Sequence[int], feed: Stream) -> list[TrainState]:
            keys = map(jax.random.key, seeds)
            made = [init(key, at(feed, 0, s)) for s, key in enumerate(keys)]
            return jax.device_put(made, shared)

        def learn(
            states: Any, feed: Stream, batches: int, going: Sequence[bool]
        ) -> tuple[Any, Any]:
            work = Work(own, states, feed, batches, going)
            return self.learn([(numbers, work)])[0]

        beside = (self, numbers)
        own = Carrier(start, learn, self.chunks.metrics, list, list, beside)
        return own


def filled_up(members: int, devices: int) -> int:
    """The least number of members, with copies, that devices share out evenly."""
    if members > devices:
        return -(-members // devices) * devices
    return next(n for n in range(members, devices + 1) if devices % n == 0)


class Siblings:
    """Makes the carriers of points of one family."""

    def __init__(self, configs: Sequence[ConfigDict], *, at_once: int = 0):
        """Nothing is built yet.

        Args:
          configs: of one family.
          at_once: points that may learn side by side at most; 0: all of them.
        """
        self.config, self.fields = configs[0], numbers_of(configs)
        points = min(at_once or len(configs), len(configs))
        self.size = filled_up(points * len(self.config.seeds), jax.device_count())
        self.mesh = make_mesh(jax.devices(), seeds=self.size, **self.config.mesh)
        self.in_turn = turns(self.mesh)
        self.at_once = 1 if self.in_turn else points
        self._made: dict[bool, Callable[[Numbers], Carriers]] = {}

    def carriers(self, experiment: Experiment, config: ConfigDict) -> Carriers:
        """Those of a point; siblings that start alike share their programs."""
        if experiment.fresh not in self._made:
            self._made[experiment.fresh] = self._make(experiment)
        numbers: Numbers = {
            name: np.asarray(dotted.get(config, name), np.float32)
            for name in self.fields
        }
        return self._made[experiment.fresh](numbers)

    def _make(self, experiment: Experiment) -> Callable[[Numbers], Carriers]:
        program = program_of(self.config, experiment.learning_of)
        init = once(program.init)
        if self.in_turn:
            steps = [jit(s, donate_argnums=1) for s in (program.step, program.passing)]

            def turning_of(numbers: Numbers) -> Carriers:
                begin = partial(init, numbers)
                return Carriers(*(turning(begin, partial(s, numbers)) for s in steps))

            return turning_of
        crews = [
            Together(s, self.mesh, size=self.size, vmap=experiment.learning.vmap)
            for s in (program.step, program.passing)
        ]

        def beside_of(numbers: Numbers) -> Carriers:
            begin = partial(init, numbers)
            return Carriers(*(crew.carrier(begin, numbers) for crew in crews))

        return beside_of


def done(asked: Mapping[str, Work]) -> dict[str, tuple[Any, Any]]:
    """The answers to all that is asked for, side by side where that can be."""
    answers: dict[str, tuple[Any, Any]] = {}
    crews: dict[tuple[Together, int], dict[str, tuple[Numbers, Work]]] = {}
    for name, work in asked.items():
        if work.carrier.beside:
            crew, numbers = work.carrier.beside
            group = crews.setdefault((crew, work.batches), {})
            group[name] = numbers, work
        else:
            answers[name] = work.done()
    for (crew, _), group in crews.items():
        learnt = crew.learn([*group.values()])
        answers |= dict(zip(group, learnt, strict=True))
    return answers
