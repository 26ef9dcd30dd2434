"""Under bfloat16 the network computes in it; state, scores and losses stay float32."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import SSL, strategy_of, stream, tiny_learning

from ocssl_jax.methods import METHODS

NETWORK = {16, 12, 64}  # widths of `tiny`: hidden and features, projections, pixels
HEADS = {"simsiam": {8}, "byol": {8}, "supervised": {10}}  # widths of their own
# Layers and their gradients; that of a bias is a sum over rows.
LAYERS = {"dot_general", "add", "add_any", "max", "reduce_sum"}
MOVES = {"broadcast_in_dim", "concatenate", "convert_element_type", "copy", "gather"}
MOVES |= {"pad", "reshape", "select_n", "slice", "squeeze", "stack", "transpose"}
BATCHES = 4
PAIRS = [
    *((strategy, "simclr") for strategy in SSL),
    *((strategy_of(m), m) for m in METHODS if m not in ("simclr", "mae", "clip")),
]
DEFAULT = ("climb", "scale")


def equations(jaxpr) -> Iterator:
    """All of a program that hold no others."""
    for equation in jaxpr.eqns:
        values = jax.tree.leaves(list(equation.params.values()))
        within = [getattr(value, "jaxpr", value) for value in values]
        within = [inner for inner in within if hasattr(inner, "eqns")]
        for inner in within:
            yield from equations(inner)
        if not within:
            yield equation


@pytest.mark.parametrize(
    ("strategy", "method"),
    [p if p[0] in DEFAULT else pytest.param(*p, marks=pytest.mark.slow) for p in PAIRS],
)
def test_the_network_alone_computes_in_bfloat16(strategy, method):
    learning = tiny_learning(
        strategy__name=strategy, method__name=method, precision="bfloat16"
    )
    batch = next(stream(1, labelled=learning.method.head is not None))
    state = jax.eval_shape(learning.init, jax.random.key(0), batch)
    after, metrics = jax.eval_shape(learning.step, state, batch)
    floats = {
        leaf.dtype
        for leaf in jax.tree.leaves((state, after, metrics))
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    }
    assert floats == {jnp.dtype("float32")}
    found = list(equations(jax.make_jaxpr(learning.step)(state, batch).jaxpr))
    low = [e for e in found if e.outvars[0].aval.dtype == jnp.bfloat16]
    names = {e.primitive.name for e in low}
    assert "dot_general" in names and names <= LAYERS | MOVES
    products = [e for e in found if e.primitive.name == "dot_general"]
    low, high = (
        [e.outvars[0].aval.shape for e in products if e.invars[0].aval.dtype == dtype]
        for dtype in (jnp.bfloat16, jnp.float32)
    )
    assert any(shape[-1] == 16 for shape in low)
    assert {shape[-1] for shape in low} <= NETWORK | HEADS.get(method, set())
    if strategy in DEFAULT:  # similarities have a row along each axis
        assert any(len(s) == 2 and not NETWORK & set(s) for s in high)


def test_bfloat16_learns_nearly_the_same():
    runs = {}
    for precision in ("float32", "bfloat16"):
        learning = tiny_learning(
            strategy__name="er",
            precision=precision,
            optimizer__learning_rate=0.001,  # lest roundings grow from step to step
        )
        arrivals = list(stream(BATCHES, short=False))
        state = jax.jit(learning.init)(jax.random.key(0), arrivals[0])
        step, losses = jax.jit(learning.step), []
        for batch in arrivals:
            state, metrics = step(state, batch)
            losses.append(float(metrics["loss"]))
        runs[precision] = losses
    exact, rough = runs.values()
    assert exact != rough
    np.testing.assert_allclose(rough, exact, rtol=0.06)  # 8 bits, and batches of 4 rows
