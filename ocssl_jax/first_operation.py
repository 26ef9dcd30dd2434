"""Which operation of a function is the first to give a number that is not finite.

The function is gone through operation by operation, loops and branches included, and
each result is looked at. What only hands on what is not finite, such as the -inf that
marks an empty slot of a memory, is not to blame. Slow: for `config.debug` alone.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import source_info_util
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

Values = list[Any]
# Operations that only call a traced function, by the names of several JAX versions.
CALLS = frozenset(
    [
        "jit",
        "pjit",
        "closed_call",
        "checkpoint",
        "remat2",
        "custom_jvp_call",
        "custom_vjp_call",
        "custom_vjp_call_jaxpr",
    ]
)


class _Found(Exception):
    """Says which operation it was."""


def first_operation(fn: Callable[..., Any], *args: Any) -> str | None:
    """The operation and its line, None if all results are finite or handed on.

    Args:
      fn: of pytrees of arrays, all on this process's devices.
      args: what to call it with.
    """
    traced = jax.make_jaxpr(fn)(*args)
    try:
        _call(traced, jax.tree.leaves(args))
    except _Found as found:
        return str(found)
    return None


def _open(jaxpr: ClosedJaxpr | Jaxpr) -> tuple[Jaxpr, Values]:
    """A traced function's operations, and its constants."""
    if isinstance(jaxpr, ClosedJaxpr):
        return jaxpr.jaxpr, list(jaxpr.consts)
    return jaxpr, []


def _call(jaxpr: ClosedJaxpr | Jaxpr, args: Sequence[Any]) -> Values:
    """What a traced function gives."""
    inner, consts = _open(jaxpr)
    known = dict(zip([*inner.constvars, *inner.invars], [*consts, *args], strict=True))
    read = lambda v: v.val if isinstance(v, Literal) else known[v]
    for eqn in inner.eqns:
        given = [read(v) for v in eqn.invars]
        got = _apply(eqn, given)
        if any(map(_bad, got)) and not any(map(_bad, given)):
            raise _Found(f"{eqn.primitive} in {_line(eqn)}")
        known.update(zip(eqn.outvars, got, strict=True))
    return [read(v) for v in inner.outvars]


def _apply(eqn: JaxprEqn, given: Values) -> Values:
    """What one operation gives; what holds others is gone into."""
    name, params = eqn.primitive.name, eqn.params
    if name in CONTROL:
        return CONTROL[name](eqn, given)
    if name in CALLS:
        return _call(params.get("call_jaxpr") or params["jaxpr"], given)
    got = eqn.primitive.bind(*given, **params)
    return list(got) if eqn.primitive.multiple_results else [got]


def _stacked(outer: Sequence[Any], inner: Sequence[Any]) -> int:
    """How many of a scan's values, the last ones, have a row for each turn of it."""
    pairs = zip(outer, inner, strict=True)
    return sum(len(o.aval.shape) > len(i.aval.shape) for o, i in pairs)


def _scan(eqn: JaxprEqn, given: Values) -> Values:
    # JAX versions note down in different ways which values are constants, which are
    # carried and which are rows; shapes tell it in all of them.
    params, body = eqn.params, _open(eqn.params["jaxpr"])[0]
    carried = len(body.outvars) - _stacked(eqn.outvars, body.outvars)
    last = len(given) - _stacked(eqn.invars, body.invars)
    consts, carry = given[: last - carried], given[last - carried : last]
    times = range(params["length"])
    seen: list[Values] = []
    for t in reversed(times) if params["reverse"] else times:
        rows = [x[t] for x in given[last:]]
        got = _call(params["jaxpr"], [*consts, *carry, *rows])
        carry, new = got[:carried], got[carried:]
        seen.append(new)
    if params["reverse"]:
        seen.reverse()
    return [*carry, *(jnp.stack(column) for column in zip(*seen, strict=True))]


def _while(eqn: JaxprEqn, given: Values) -> Values:
    params = eqn.params
    first, last = (
        params["cond_nconsts"],
        params["cond_nconsts"] + params["body_nconsts"],
    )
    asking, doing, carry = given[:first], given[first:last], given[last:]
    while bool(_call(params["cond_jaxpr"], [*asking, *carry])[0]):
        carry = _call(params["body_jaxpr"], [*doing, *carry])
    return carry


def _cond(eqn: JaxprEqn, given: Values) -> Values:
    branches = eqn.params["branches"]
    taken = min(max(int(given[0]), 0), len(branches) - 1)
    return _call(branches[taken], given[1:])


CONTROL: dict[str, Callable[[JaxprEqn, Values], Values]] = {
    "scan": _scan,
    "while": _while,
    "cond": _cond,
}


def _bad(value: Any) -> bool:
    """Whether an array holds a NaN or an infinity."""
    if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        return False
    return not np.isfinite(np.asarray(value, np.float64)).all()


def _line(eqn: JaxprEqn) -> str:
    """The line of our code, 'file:line:column (function)'."""
    return source_info_util.summarize(eqn.source_info)
