"""Under bfloat16 the network computes in it; state, scores and losses stay float32."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import stream, tiny_learning

NETWORK = {16, 12, 64}  # widths of `tiny`: hidden and features, projections, pixels
BATCHES = 4


def products(jaxpr) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(dtype of the factors, shape of the product) of every matrix product."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield str(equation.invars[0].aval.dtype), equation.outvars[0].aval.shape
        for value in jax.tree.leaves(list(equation.params.values())):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from products(inner)


@pytest.mark.parametrize("strategy", ["climb", "scale"])
def test_the_network_alone_computes_in_bfloat16(strategy):
    learning = tiny_learning(strategy__name=strategy, precision="bfloat16")
    batch = next(stream(1))
    state = jax.eval_shape(learning.init, jax.random.key(0), batch)
    floats = {
        leaf.dtype
        for leaf in jax.tree.leaves(state)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    }
    assert floats == {jnp.dtype("float32")}
    found = list(products(jax.make_jaxpr(learning.step)(state, batch).jaxpr))
    low = [shape for dtype, shape in found if dtype == "bfloat16"]
    assert any(shape[-1] == 16 for shape in low)
    assert {shape[-1] for shape in low} <= NETWORK
    # Similarities, which have a row of the batch or of a memory along each axis.
    assert any(len(s) == 2 and not NETWORK & set(s) for d, s in found if d == "float32")


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
