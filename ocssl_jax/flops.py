"""How much a program computes, read off its trace: nothing is compiled or run.

Counted are the products in convolutions and matrix products, two operations each, which
are nearly all of what training a network costs. The body of a `scan` counts as often as
it runs, of the branches of a `cond` the dearest. (XLA's own count has a loop's body
once.) Loops of unknown length count once; in a step none has products of note.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax


def count(function: Callable[..., Any], *args: Any) -> float:
    """Floating-point operations of `function(*args)`; shapes may stand for arrays."""
    return _of(jax.make_jaxpr(function)(*args).jaxpr)


def _of(jaxpr: Any) -> float:
    return sum(_equation(equation) for equation in jaxpr.eqns)


def _equation(equation: Any) -> float:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        return _product(equation)
    if name == "conv_general_dilated":
        return _convolution(equation)
    inner = [_of(jaxpr) for jaxpr in _inside(parameters)]
    if name == "cond":
        return max(inner)
    return parameters["length"] * sum(inner) if name == "scan" else sum(inner)


def _inside(parameters: dict[str, Any]) -> Iterator[Any]:
    """The programs within an operation, such as a loop's body."""
    for value in parameters.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            part = getattr(part, "jaxpr", part)
            if hasattr(part, "eqns"):
                yield part


def _product(equation: Any) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    return 2.0 * math.prod(out) * math.prod(left[axis] for axis in contracted)


def _convolution(equation: Any) -> float:
    """Zeros between the rows of a strided gradient count for nothing."""
    kernel, out = equation.invars[1].aval.shape, equation.outvars[0].aval.shape
    spread = math.prod(equation.params["lhs_dilation"])
    features = equation.params["dimension_numbers"].rhs_spec[0]
    taps = math.prod(kernel) / kernel[features]  # of one output: inputs x window
    return 2.0 * math.prod(out) * taps / spread
