"""How the big programs of a run are compiled.

On a CPU, XLA's newer generator of fused loops compiles a train step with twice the
memory of the older one, and its code is hardly faster (docs/performance.md). So the
older one is asked for, as long as the compiler has it. A program that draws first
weights runs once and is long: all optimisations take six times as long to compile as
those of `BRIEF`, for the same bits.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax

Options = dict[str, bool | int]

OLDER: Options = {"xla_cpu_use_fusion_emitters": False}
BRIEF: Options = {"xla_backend_optimization_level": 2}  # of 3


def _knows(asked: Options) -> bool:
    """Whether programs are for a CPU, and its compiler has these options."""
    if jax.default_backend() != "cpu":
        return False
    try:
        jax.jit(lambda: 0, compiler_options=asked)()
    except jax.errors.JaxRuntimeError:  # of another version
        return False
    return True


@cache
def options() -> Options | None:
    """What XLA is asked for on this machine's devices; None: nothing in particular."""
    return OLDER if _knows(OLDER) else None


@cache
def brief_options() -> Options | None:
    """What it is asked for a program that runs once."""
    least = jax.config.read("jax_disable_most_optimizations")  # of all, less than BRIEF
    more = BRIEF if not least and _knows(BRIEF) else {}
    return {**(options() or {}), **more} or None


def jit(function: Callable[..., Any], **how: Any) -> Any:
    """`jax.jit(function, **how)`, compiled with `options`."""
    return jax.jit(function, compiler_options=options(), **how)


def once(function: Callable[..., Any], **how: Any) -> Any:
    """`jit` for a program that runs about once: less is made of it, the same bits."""
    return jax.jit(function, compiler_options=brief_options(), **how)
