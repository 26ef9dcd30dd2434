"""How the big programs of a run are compiled.

On a CPU, XLA's newer generator of fused loops compiles a train step with twice the
memory of the older one, and its code is hardly faster (docs/performance.md). So the
older one is asked for, as long as the compiler has it.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax

OLDER = {"xla_cpu_use_fusion_emitters": False}


@cache
def options() -> dict[str, bool] | None:
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
