"""What can be said of programs for accelerators on a machine without one."""

import re

import jax
import pytest
from tiny import SSL, stream, tiny_learning

DEFAULT = ("climb",)
STRATEGIES = [
    name if name in DEFAULT else pytest.param(name, marks=pytest.mark.slow)
    for name in SSL
]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_step_is_lowered_for_a_gpu(strategy, monkeypatch):
    """Convolutions are left to its library, scores are in full float32, not TF32."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    learning = tiny_learning(
        strategy__name=strategy, backbone__name="convnet", backbone__width=4
    )
    batch = next(stream(1))
    state = jax.eval_shape(learning.init, jax.random.key(0), batch)
    traced = jax.jit(learning.step, donate_argnums=0).trace(state, batch)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.convolution" in text
    assert "optimization_barrier" not in text  # with which a CPU's are written out
    scores = [line for line in text.splitlines() if "dot_general" in line]
    assert any("precision = [HIGHEST, HIGHEST]" in line for line in scores)
    # All of the state is donated.
    given = re.findall(r"%arg\d+: tensor<[^>]*> \{[^}]*tf.aliasing_output", text)
    assert len(given) == len(jax.tree.leaves(state))
