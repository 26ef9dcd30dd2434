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


@cache
def options() -> Options | None:
    """What XLA is asked for on this machine's devices; None: nothing in particular."""
    if jax.default_backend() != "cpu":
        return None
    try:
        jax.jit(lambda: 0, compiler_options=OLDER)()
    except jax.errors.JaxRuntimeError:  # a version that has one generator alone
        return None
    return OLDER


def jit(function: Callable[..., Any], **how: Any) -> Any:
    """`jax.jit(function, **how)`, compiled with `options`."""
    return jax.jit(function, compiler_options=options(), **how)


def once(function: Callable[..., Any], **how: Any) -> Any:
    """`jit` for a program that runs about once; it should not round otherwise."""
    chosen, least = options(), jax.config.read("jax_disable_most_optimizations")
    more = {} if least or chosen is None else BRIEF
    return jax.jit(function, compiler_options=chosen and chosen | more, **how)
