"""Several seeds of one experiment, trained together or in turn.

Both forms offer the same three functions on an opaque `states`:

* `together` stacks the seeds along a leading axis and vmaps the step: one program for
  all of them, the right form on an accelerator;
* `in_turn` keeps a list and calls the step for each: with weights of their own vmapped
  convolutions become grouped ones, which XLA:CPU runs many times slower.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ocssl_jax.core import Key, Stream, TrainState
from ocssl_jax.step import Init, Metrics, Step


class Seeds(NamedTuple):
    """How the seeds of a run are carried."""

    init: Callable[[Sequence[Key], Sequence[Stream]], Any]  # -> states
    step: Callable[[Any, Sequence[Stream]], tuple[Any, Any]]  # -> states, metrics
    per_seed: Callable[[Any], list[Metrics]]  # of metrics on the host
    split: Callable[[Any], list[TrainState]]
    join: Callable[[list[TrainState]], Any]  # inverse of split


def in_turn(init: Init, step: Step) -> Seeds:
    """One seed after the other."""
    init, step = jax.jit(init), jax.jit(step, donate_argnums=0)

    def init_all(keys: Sequence[Key], streams: Sequence[Stream]) -> list[TrainState]:
        return [init(key, stream) for key, stream in zip(keys, streams, strict=True)]

    def step_all(
        states: list[TrainState], streams: Sequence[Stream]
    ) -> tuple[list[TrainState], list[Metrics]]:
        pairs = [step(s, x) for s, x in zip(states, streams, strict=True)]
        return [s for s, _ in pairs], [m for _, m in pairs]

    return Seeds(init_all, step_all, list, list, list)


def together(init: Init, step: Step) -> Seeds:
    """All seeds in one vmapped program."""
    init = jax.jit(jax.vmap(init))
    step = jax.jit(jax.vmap(step), donate_argnums=0)

    def stack(trees: Sequence[Any]) -> Any:
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

    def split(tree: Any) -> list[Any]:
        seeds = len(jax.tree.leaves(tree)[0])
        return [jax.tree.map(lambda a, i=i: a[i], tree) for i in range(seeds)]

    def step_all(
        states: TrainState, streams: Sequence[Stream]
    ) -> tuple[TrainState, Metrics]:
        return step(states, stack(streams))

    def init_all(keys: Sequence[Key], streams: Sequence[Stream]) -> TrainState:
        return init(stack(keys), stack(streams))

    return Seeds(init_all, step_all, split, split, stack)


def for_platform(platform: str, init: Init, step: Step) -> Seeds:
    """The faster of the two forms on `platform` ('cpu', 'gpu' or 'tpu')."""
    return in_turn(init, step) if platform == "cpu" else together(init, step)
