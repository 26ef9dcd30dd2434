"""Learners that take their numbers as arrays are those that were built with them."""

import jax
import numpy as np
import pytest
from marks import slow_but
from tiny import (
    BATCH,
    NAMES,
    SHAPE,
    bits,
    equal,
    method_of,
    strategy_of,
    stream,
    tiny_config,
)

from ocssl_jax import dotted
from ocssl_jax.learning import make_learning
from ocssl_jax.siblings import NUMBERS, family, numbers_of, program_of, with_numbers
from ocssl_jax.traced import holds

CLIMB = {"strategy__name": "climb"}
RATE = "optimizer.learning_rate"


def learning_of(config):
    return make_learning(
        config,
        shape=SHAPE,
        mean=(0.5,),
        std=(0.3,),
        class_names=NAMES,
        train_images=len(NAMES) * 5 * BATCH,
    )


def user_of(field):
    """Fields of a tiny learner in which the number has a say."""
    group, name, *rest = field.split(".")
    if group == "strategy" and rest:
        return {"strategy__name": name, "method__name": method_of(name)}
    if field.startswith("method.clip"):
        own = {"method__clip__objective": rest[1]}
        return {"method__name": "clip", "strategy__name": "none", **own}
    if group == "method":
        return {"method__name": name, "strategy__name": strategy_of(name)}
    return {"strategy__name": "cla_e"} if "decay" in name else CLIMB


def other(value):
    """A value that is another one, and no round one."""
    return 0.7 * value + 0.013


def siblings(field):
    """Config of a tiny learner, the number's field and another value of it."""
    config = tiny_config(**user_of(field))
    return config, other(dotted.get(config, field))


def traced(config, field):
    """The program's jaxpr of a state and a step, of the number alone."""
    program = program_of(config, learning_of)
    batch = next(stream(1, labelled=learning_of(config).method.head is not None))

    def whole(value):
        numbers = {field: value}
        state = program.init(numbers, jax.random.key(0), batch)
        return program.step(numbers, state, batch)

    return jax.make_jaxpr(whole)(np.float32(0.5)), jax.eval_shape(whole, 0.5)


@pytest.mark.parametrize("field", slow_but([RATE, "strategy.align_weight"], NUMBERS))
def test_a_number_may_be_an_array_and_has_a_say(field):
    """Of the same types, too: a strong float32 must not widen what is bfloat16."""
    config, _ = siblings(field)
    config.precision = "bfloat16"
    jaxpr, shapes = traced(config, field)
    (number,) = jaxpr.jaxpr.invars
    assert any(number in equation.invars for equation in jaxpr.jaxpr.eqns)
    learning = learning_of(config)
    batch = next(stream(1, labelled=learning.method.head is not None))
    state = jax.eval_shape(learning.init, jax.random.key(0), batch)
    assert shapes == jax.eval_shape(learning.step, state, batch)


@pytest.mark.parametrize("field", slow_but(["strategy.align_weight"], NUMBERS))
def test_a_learner_with_an_array_is_the_one_with_the_number(field):
    """Built with another value than the one that is handed over.

    A step from the same state, with a memory that is not empty: rounding differs, and
    grows from step to step where a ReLU switches.
    """
    config, value = siblings(field)
    assert value != dotted.get(config, field)
    program = program_of(config, learning_of)
    plain = learning_of(with_numbers(config, {field: value}))
    labelled, numbers = plain.method.head is not None, {field: np.float32(value)}
    init, step = jax.jit(plain.init), jax.jit(plain.step)
    *before, last = stream(7, labelled=labelled, short=False)
    state = init(jax.random.key(0), last)
    first = jax.jit(program.init)(numbers, jax.random.key(0), last)
    for batch in before:
        state, _ = step(state, batch)
    alone = step(state, last)
    shared = jax.jit(program.step)(numbers, state, last)
    for a, b in zip(bits(shared), bits(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for a, b in zip(bits(first), bits(init(jax.random.key(0), last)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_the_numbers_decide_what_is_learnt():
    config, value = siblings(RATE)
    program = program_of(config, learning_of)
    batch, step = next(stream(1)), jax.jit(program.step)
    state = jax.jit(program.init)({RATE: np.float32(0)}, jax.random.key(0), batch)

    def learnt(rate):
        return step({RATE: np.float32(rate)}, state, batch)[0]

    assert not equal(learnt(0.1), learnt(value))
    assert equal(learnt(0.1), learnt(0.1))


def test_configs_are_of_one_family_if_numbers_alone_differ():
    config = tiny_config(**CLIMB)
    for field in NUMBERS:
        assert family(with_numbers(config, {field: 0.3})) == family(config)
    others = ("passes", "seeds", "strategy.name", "stream.data_dir", "chunk")
    for field, value in zip(others, (9, (5,), "er", "/there", 3), strict=True):
        assert family(with_numbers(config, {field: value})) != family(config)


def test_the_numbers_of_a_family_are_those_that_differ():
    config = tiny_config(**CLIMB)
    a, b = (with_numbers(config, {RATE: 0.3, "strategy.ema_decay": x}) for x in (0, 1))
    assert numbers_of([config, a, b]) == (RATE, "strategy.ema_decay")
    assert numbers_of([config, config]) == ()


def test_numbers_change_no_config_but_the_new_one():
    config = tiny_config(**CLIMB)
    before = config.to_json_best_effort()
    new = with_numbers(config, {RATE: np.float32(3.0)})
    assert config.to_json_best_effort() == before and dotted.get(new, RATE) == 3.0


def test_within_a_program_a_condition_on_settings_holds():
    asked = []
    jax.jit(lambda x: asked.append(holds(x > 1)) or x)(0.0)
    assert asked == [True] and holds(2 > 1) and not holds(np.float32(0) > 1)
