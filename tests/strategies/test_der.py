"""DER: what grows, what is held, and the second loss beside plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import SHAPE, stream, tiny_learning

from ocssl_jax import encoders, handover
from ocssl_jax.backbones.convnet import ConvNet
from ocssl_jax.backbones.grown import Grown, grown, last_block
from ocssl_jax.backbones.mlp import Mlp
from ocssl_jax.errors import UsageError
from ocssl_jax.strategies.classifier import balanced_classifier

TASK, T, WEIGHT = 5, 3, 0.7  # batches; tasks
KEY = jax.random.key(0)


def learning(**fields):
    return tiny_learning(
        strategy__name="der",
        strategy__der__auxiliary_weight=WEIGHT,
        method__name="clip",
        augment__name="none",
        optimizer__name="adamw",  # momentum and decay must not reach what is held
        optimizer__learning_rate=0.01,
        optimizer__weight_decay=0.1,
        stream__tasks=T,
        passes=1,
        **fields,
    )


@pytest.fixture(scope="module")
def run():
    """States before each batch and after the last of three tasks, and their logs."""
    made = learning()
    batches = list(stream(T * TASK, short=False, labelled=True))
    states, seen = [made.init(KEY, batches[0])], []
    step = jax.jit(made.step)
    for batch in batches:
        state, metrics = step(states[-1], batch)
        states.append(state)
        seen.append(metrics)
    return made, batches, states, seen


def features(made, state, image):
    """[n T f] as probes see them."""
    e = made.encode(made.encoder(state), image)
    return np.asarray(e).reshape(len(image), T, -1)


def test_earlier_blocks_say_for_ever_what_they_said_when_their_task_had_ended(run):
    made, batches, states, _ = run
    image = batches[3].image
    ends = [features(made, states[TASK * (t + 1)], image) for t in range(T)]
    for t in range(T):
        for later in range(t, T):
            np.testing.assert_allclose(ends[later][:, t], ends[t][:, t], rtol=1e-5)
        assert (ends[t][:, t + 1 :] == 0).all() and ends[t][:, t].any()
    assert not np.allclose(ends[1][:, 1], ends[1][:, 0])  # it learns on


@pytest.fixture(scope="module")
def network():
    """A network with batch norm after two steps of growth, and images."""
    module = ConvNet(4, jnp.float32)
    whole = Grown(module, T, last_block(module))
    images = jax.random.normal(KEY, (6, *SHAPE))
    variables = whole.init(KEY, images, train=False)
    return module, whole, images, variables


def moved(tree, by):
    return jax.tree.map(lambda x: x + jnp.asarray(by, x.dtype), tree)


def test_a_network_grows_by_its_last_block_and_holds_the_rest(network):
    module, whole, images, variables = network
    params, stats = variables["params"], variables["batch_stats"]
    say = lambda p, s: np.asarray(
        whole.apply({"params": p, "batch_stats": s}, images, train=False)
    ).reshape(6, T, -1)
    alone = lambda p: np.asarray(
        module.apply({"params": p, "batch_stats": stats["now"]}, images, train=False)
    )
    first = say(params, stats)
    np.testing.assert_allclose(first[:, 0], alone(params), rtol=1e-5)
    assert not first[:, 1:].any()
    stats = grown(params, stats)
    then = moved(params, 0.01)
    second = say(then, stats)
    np.testing.assert_allclose(second[:, 0], first[:, 0], rtol=1e-5)
    # The shared blocks are held: of the moved weights the last block's alone count.
    mixed = {k: (then if k in whole.last else params)[k] for k in params}
    np.testing.assert_allclose(second[:, 1], alone(mixed), rtol=1e-5)
    third = say(moved(then, 0.01), grown(then, stats))
    np.testing.assert_allclose(third[:, :2], second[:, :2], rtol=1e-5)
    assert third[:, 2].any()
    # It has as many blocks as tasks: one more boundary changes nothing.
    stats = grown(then, stats)
    jax.tree.map(np.testing.assert_array_equal, grown(params, stats), stats)


def test_only_the_newest_block_has_a_gradient_and_moving_statistics(network):
    _, whole, images, variables = network
    params, stats = variables["params"], variables["batch_stats"]

    def slope(stats):
        def total(p):
            e, after = whole.apply(
                {"params": p, "batch_stats": stats},
                images,
                train=True,
                mutable=["batch_stats"],
            )
            return jnp.sum(e**2), after["batch_stats"]

        grads, after = jax.grad(total, has_aux=True)(params)
        has = {k: any(np.any(x) for x in jax.tree.leaves(v)) for k, v in grads.items()}
        return {k for k, v in has.items() if v}, after

    assert slope(stats)[0] == set(params)
    stats = grown(params, stats)
    trained, after = slope(stats)
    assert trained == set(whole.last)
    for name in ("shared", "past", "count"):
        jax.tree.map(np.testing.assert_array_equal, after[name], stats[name])
    assert not np.array_equal(
        after["now"]["norm4"]["mean"], stats["now"]["norm4"]["mean"]
    )


@pytest.mark.parametrize("norms", [True, False])
def test_a_network_that_was_saved_says_the_same(tmp_path, norms):
    """Also one without batch norm, of whose statistics a file holds nothing."""
    module = ConvNet(4, jnp.float32) if norms else Mlp(8, jnp.float32)
    whole = Grown(module, T, last_block(module))
    images = jax.random.normal(KEY, (3, *SHAPE))
    made = whole.init(KEY, images, train=False)
    made = made | {"batch_stats": grown(made["params"], made["batch_stats"])}
    encoders.save(tmp_path / "encoder.safetensors", made)
    again = encoders.load(tmp_path / "encoder.safetensors")
    say = lambda variables: whole.apply(variables, images, train=False)
    np.testing.assert_array_equal(say(again), say(made))


def test_what_was_known_stays_as_it_was_until_a_block_learns(run, tmp_path):
    """From another run's learner: the same projections, at first and once grown."""
    plain = tiny_learning(
        strategy__name="none", method__name="clip", augment__name="none"
    )
    batch = next(stream(1, short=False, labelled=True))
    start = plain.init(jax.random.key(5), batch)
    handover.save(tmp_path, {0: start}, plain.method)
    made = learning(method__pretrained=str(tmp_path / "seed_0.safetensors"))
    state = made.init(KEY, batch)
    x = made.prepare(batch.image)
    say = lambda m, s: m.method.forward(s.params["method"], s.model, x, train=False).z
    np.testing.assert_allclose(say(made, state), say(plain, start), rtol=1e-5)
    # Blocks to come say nothing: their part of the map is 0, and was so for a task.
    kernel = run[2][TASK].params["method"]["projector"]["linear1"]["kernel"]
    assert np.any(kernel[:16]) and not np.any(kernel[16:])


def test_the_second_loss_is_of_new_classes_and_one_for_all_old_ones(run):
    made, batches, states, seen = run
    assert all(float(m["loss_auxiliary"]) == 0 for m in seen[:TASK])
    # A batch of the second task of which two rows are of the first.
    old = batches[TASK + 2]
    label = old.label.at[:2].set(jnp.array([0, 1]))
    batch = old._replace(label=label, pool=old.pool.at[:2].set(1.0))
    state = states[TASK + 2]
    _, metrics = jax.jit(made.step)(state, batch)
    e = np.asarray(
        made.method.forward(
            state.params["method"], state.model, made.prepare(batch.image), train=True
        ).e,
        np.float64,
    ).reshape(4, T, -1)[:, 1]
    head = {k: np.asarray(v, np.float64) for k, v in state.params["strategy"].items()}
    logits = (e @ head["kernel"] + head["bias"])[:, [2, 3, 10]]  # 10: all old ones
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    target = [2, 2, *(np.asarray(label[2:]) - 2)]
    expected = -WEIGHT * log_p[np.arange(4), target].mean()
    assert float(metrics["loss_auxiliary"]) == pytest.approx(expected, rel=1e-4)


def test_the_classifier_is_fitted_to_the_features_of_all_blocks(run):
    made, batches, states, _ = run
    held = batches[-TASK:]  # there is no memory here
    image, label = (
        jnp.concatenate([getattr(b, name) for b in held]) for name in ("image", "label")
    )
    e = jnp.asarray(features(made, states[-1], image).reshape(len(label), -1))
    real = jnp.ones(len(label), bool)
    expected = balanced_classifier(e, label, real, classes=10, steps=50, rate=0.01)
    found = jax.jit(made.head)(states[-1])
    assert found["kernel"].shape == (T * 16, 10)
    host = jax.device_get
    score = lambda head: (host(e) @ host(head["kernel"]) + host(head["bias"]))[:, 4:6]
    np.testing.assert_allclose(score(found), score(expected), rtol=1e-3, atol=1e-3)
    assert (score(found).argmax(axis=1) == label - 4).mean() > 0.9


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"method__name": "supervised"}, "method.name must be clip .*'supervised'"),
        ({"backbone__name": "resnet9"}, "config.backbone: name must be clip_"),
        ({"stream__memory": 25}, "memory_size must be at least 25 with strategy 'der'"),
        ({"stream__tasks": 1}, "stream.tasks must be at least 2, got 1"),
        ({"stream__kind": "blurred"}, "kind must not be blurred with strategy 'der'"),
        (
            {"method__clip__objective": "gcl"},
            "objective must be cross_entropy with strategy 'der', got 'gcl'",
        ),
    ],
)
def test_what_it_cannot_work_with_is_told(fields, words):
    with pytest.raises(UsageError, match=words):
        tiny_learning(strategy__name="der", **{"method__name": "clip", **fields})
