"""Classification: its loss, its head, its networks, and who is told labels."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import BATCH, SHAPE, bits, stream, tiny_config, tiny_learning

from ocssl_jax import stream_checks
from ocssl_jax.backbones import make_backbone
from ocssl_jax.core import Batch
from ocssl_jax.data import Benchmark, Dataset, Schedule
from ocssl_jax.errors import UsageError
from ocssl_jax.feed import feed
from ocssl_jax.losses import cross_entropy
from ocssl_jax.methods.supervised import supervised
from ocssl_jax.probing import Features, own


@cache
def learning(**fields):
    return tiny_learning(method__name="supervised", augment__name="none", **fields)


def test_cross_entropy_is_that_of_softmax_in_float64():
    rng = np.random.default_rng(0)
    logits, label = 5 * rng.normal(size=(6, 4)), rng.integers(0, 4, 6)
    mask = np.arange(6) != 2
    logits[2] = np.nan  # a masked row may hold anything
    found = cross_entropy(jnp.asarray(logits), jnp.asarray(label), jnp.asarray(mask))
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = np.where(mask, -np.log(softmax[np.arange(6), label]), 0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# MIR's networks; the numbers are those of its released code.
@pytest.mark.parametrize(
    ("name", "width", "shape", "classes", "count"),
    [
        ("mlp", 400, (28, 28, 1), 10, 478_410),
        ("gated_mlp", 400, (28, 28, 1), 10, 636_020),
        ("reduced_resnet18", 0, (32, 32, 3), 10, 1_094_750),
        ("reduced_resnet18", 0, (84, 84, 3), 100, 1_157_240),
    ],
)
def test_the_papers_networks_have_their_sizes(name, width, shape, classes, count):
    backbone = make_backbone(
        name,
        image_size=shape[0],
        dtype=jnp.float32,
        width=width,
        depth=0,
        stem="auto",
        pool="cls",
    )
    method = supervised(
        backbone,
        classes=classes,
        gated=name == "gated_mlp",
        dropout=0.0,
        dtype=jnp.float32,
    )
    image = jnp.zeros((1, *shape))
    params, _ = jax.eval_shape(method.init, jax.random.key(0), image)
    assert sum(x.size for x in jax.tree.leaves(params)) == count


def test_the_reduced_resnet_starts_as_torchs_layers_do():
    """Uniform within 1/sqrt(fan-in), scales of 1: no branch starts as 0."""
    net = make_backbone(
        "reduced_resnet18",
        image_size=32,
        dtype=jnp.float32,
        width=4,
        depth=0,
        stem="auto",
        pool="cls",
    )
    params = net.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)[
        "params"
    ]
    block = params["stage2_block1"]
    for kernel, fan_in in (
        (params["stem_conv"]["kernel"], 27),
        (block["conv1"]["kernel"], 36),
        (block["shortcut_conv"]["kernel"], 4),
    ):
        bound = fan_in**-0.5
        assert 0.9 * bound < np.abs(kernel).max() <= bound
    np.testing.assert_array_equal(block["norm2"]["scale"], 1.0)


def test_the_head_on_the_features_gives_the_logits():
    made, batch = learning(), next(stream(1, short=False, labelled=True))
    state = made.init(jax.random.key(0), batch)
    variables = made.method.encoder(state.params["method"], state.model)
    features = made.encode(variables, batch.image)
    seen = made.method.forward(
        state.params["method"], state.model, made.prepare(batch.image), train=False
    )
    head = made.head(state)
    found = np.asarray(features) @ np.asarray(head["kernel"])
    found += np.asarray(head["bias"])
    np.testing.assert_allclose(found, seen.z, rtol=1e-5, atol=1e-6)


def test_sources_that_are_apart_have_batch_statistics_of_their_own():
    """The stream's rows move the running ones first, then those that are replayed."""
    method = learning(backbone__name="convnet", backbone__width=4).method
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(1, 7, *SHAPE)), jnp.float32)
    params, model = method.init(jax.random.key(0), images[0, :1])
    batch = Batch(
        views=images,
        mask=jnp.ones(7, bool),
        items={"label": jnp.arange(7) % 3},
        replayed=3,
        apart=True,
    )
    out = method.loss(params, model, batch, jax.random.key(0))
    new = method.forward(params, model, images[0, 3:], train=True)
    old = method.forward(params, new.model, images[0, :3], train=True)
    np.testing.assert_allclose(out.z[0], np.concatenate([old.z, new.z]), rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, out.model, old.model)
    # Others may come by in between, for the statistics alone.
    others = jnp.asarray(rng.normal(size=(5, *SHAPE)), jnp.float32)
    seen = jnp.arange(5) < 4
    out = method.loss(
        params, model, batch.replace(bystanders=(others, seen)), jax.random.key(0)
    )
    between = method.forward(params, new.model, others[:4], train=True)
    last = method.forward(params, between.model, images[0, :3], train=True)
    np.testing.assert_allclose(out.z[0], np.concatenate([old.z, new.z]), rtol=1e-5)
    for a, b in zip(bits(out.model), bits(last.model), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def arrays():
    label = np.array([0, 1, 2, 1], np.int32)
    image = np.zeros((4, *SHAPE), np.uint8)
    return Dataset("x", image, label, image, label, ("a", "b", "c"), (0.0,), (1.0,), ())


@pytest.mark.parametrize("labelled", [True, False])
def test_only_a_supervised_method_is_told_labels(labelled):
    index = np.array([[2, 1], [0, 3]], np.int32)
    none = np.zeros(2, int)
    plan = Schedule(index, np.ones((2, 2), bool), none, none.astype(bool), none)
    found = feed(arrays(), [plan], range(2), length=2, labelled=labelled)
    if labelled:
        np.testing.assert_array_equal(found.label[:, 0], [[2, 1], [0, 1]])
    else:
        assert found.label is None
        assert "label" not in found.items()


def test_labels_without_an_output_are_refused():
    config = tiny_config(method__name="supervised", method__supervised__classes=2)
    bench = Benchmark(((),), ((),), ((),), ((0, 1, 2),), "class")
    words = r"^config\.method\.supervised\.classes must be at least 3 for"
    with pytest.raises(UsageError, match=words):
        stream_checks.check_classes(config, arrays(), bench)
    unlabelled = arrays()._replace(train_label=np.full(4, -1))
    with pytest.raises(UsageError, match="needs labels"):
        stream_checks.check_classes(config, unlabelled, bench)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"strategy__name": "er_mir"}, "strategy.name=er_mir"),
        ({"strategy__name": "gem"}, "strategy.name=gem"),
        (
            {"strategy__name": "er", "strategy__er__past_only": True},
            "strategy.er.past_only=True",
        ),
        (
            {"strategy__name": "none", "probe__names": ("classifier",)},
            "probe.names=classifier",
        ),
    ],
)
def test_what_needs_labels_is_refused_without(fields, field):
    with pytest.raises(UsageError, match=f"^config.{field} needs a supervised method"):
        tiny_learning(**fields)


def test_joint_replay_is_one_mean_over_all_rows():
    """`er` as it is for every method: the union of both, one batch."""
    made = learning(strategy__name="er")
    step, state = jax.jit(made.step), None
    for batch in stream(6, short=False, labelled=True):
        state = state or made.init(jax.random.key(0), batch)
        state, metrics = step(state, batch)
    assert float(metrics["rows"]) == BATCH + 6
    assert float(metrics["loss"]) == float(metrics["loss_supervised"])


def gated(dropout=0.0):
    return learning(
        backbone__name="gated_mlp",
        method__supervised__gated=True,
        method__supervised__dropout=dropout,
    )


def test_a_gated_classifier_is_asked_as_it_is_trained():
    """Both layers are maps times sigmoids, and probes find the same classes."""
    made, batch = gated(), next(stream(1, short=False, labelled=True))
    state = made.init(jax.random.key(0), batch)
    params, x = state.params["method"], made.prepare(batch.image)
    found = made.method.forward(params, state.model, x, train=False)
    sigmoid = lambda a: 1 / (1 + np.exp(-a))
    map_of = lambda layer, h: (
        h @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    )
    first = params["encoder"]["features"]
    flat = np.asarray(x).reshape(BATCH, -1)
    h = np.maximum(map_of(first["linear"], flat), 0) * sigmoid(
        map_of(first["gate"], flat)
    )
    last = params["projector"]["gated"]
    logits = map_of(last["linear"], h) * sigmoid(map_of(last["gate"], h))
    np.testing.assert_allclose(found.e, h, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.z, logits, rtol=1e-4, atol=1e-5)
    features = Features(found.e, found.e, found.e, jax.device_get(made.head(state)))
    np.testing.assert_array_equal(own(features)(found.e), logits.argmax(axis=1))


def test_dropout_leaves_features_out_in_training_alone():
    made, batch = gated(0.5), next(stream(1, short=False, labelled=True))
    state = made.init(jax.random.key(0), batch)
    params, x = state.params["method"], made.prepare(batch.image)
    rows = Batch(x[None], batch.mask, batch.items())
    key = jax.random.key(1)
    whole = made.method.forward(params, state.model, x, train=False).z
    seen = made.method.loss(params, state.model, rows, key, train=False).z[0]
    np.testing.assert_array_equal(seen, whole)
    a, b, c = (
        made.method.loss(params, state.model, rows, k).z[0]
        for k in (key, key, jax.random.key(2))
    )
    np.testing.assert_array_equal(a, b)
    assert not np.allclose(a, c) and not np.allclose(a, whole)


def test_icarl_needs_plain_logits():
    with pytest.raises(UsageError, match=r"^config\.method\.supervised\.gated must be"):
        learning(strategy__name="icarl", method__supervised__gated=True)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"strategy__name": "lump"}, "strategy.name must not be 'lump'"),
        (
            {"strategy__name": "gen", "stream__known": 1},
            "stream.known must be 0 with strategy 'gen'",
        ),
        (
            {"strategy__name": "er_mir", "strategy__replay_size": 30},
            "replay_size must be at most memory_size 24, got 30",
        ),
    ],
)
def test_what_a_classifier_cannot_do_is_refused(fields, words):
    with pytest.raises(UsageError, match=words):
        tiny_learning(method__name="supervised", **fields)
