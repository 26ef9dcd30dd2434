"""Alignment: every recipe against an oracle; teachers, criteria, heads, spaces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from align_oracle import VIEWS, Oracle, recorded
from linear_method import install
from tiny import SHAPE, bits, tiny_learning

from ocssl_jax.core import Batch, Learner, Outputs, Stream
from ocssl_jax.losses import nt_xent
from ocssl_jax.strategies.align import align, replayed_rows
from ocssl_jax.strategies.criteria import CRITERIA
from ocssl_jax.strategies.spaces import projection
from ocssl_jax.strategies.teachers import stored

FEATURE, PROJECTION, HIDDEN = 16, 12, 8  # widths of `tiny`
ROWS, REPLAY, PASSES = 8, 3, 2
REPLAYING = ("cla_r", "cla_e", "cassle_r", "climb")
RECIPES = (*REPLAYING, "cla_b", "cassle")
TEACHER = {
    "cla_r": "stored",
    "cla_e": "ema",
    "cla_b": "ema",
    "climb": "ema",
    "cassle": "frozen",
    "cassle_r": "frozen",
}


@pytest.fixture
def light(monkeypatch):
    """Makes the method `linear` and a cheap augmentation available."""
    install(monkeypatch)


def arrivals(count=4, rows=ROWS):
    """Batches with a short one in the middle and a boundary before the third.

    Eight rows: the head's batch norm over fewer makes much of rounding.
    """
    images = np.random.default_rng(0).integers(0, 256, (count, rows, *SHAPE), np.uint8)
    return [
        Stream(
            image=jnp.asarray(images[i]),
            id=1 + i * rows + jnp.arange(rows, dtype=jnp.int32),  # 0 is a free slot's
            mask=jnp.arange(rows) < (5 if i == 1 else rows),
            boundary=jnp.asarray(i in (0, 2)),
        )
        for i in range(count)
    ]


@pytest.mark.parametrize(
    ("name", "criterion", "on", "use_aligner"),
    [
        ("cla_r", "cosine", "projection", True),
        ("cla_r", "mse", "feature", False),
        ("cla_e", "ssl", "projection", False),
        ("cla_b", "cosine", "feature", True),
        ("cassle", "mse", "projection", True),
        ("cassle_r", "ssl", "projection", True),
        ("climb", "cosine", "feature", True),
    ],
)
def test_recipe_equals_its_oracle(light, monkeypatch, name, criterion, on, use_aligner):
    batches, memory = arrivals(), name in REPLAYING
    replayed = REPLAY if memory else 0
    learning, config, states, metrics, record = recorded(
        monkeypatch,
        batches,
        passes=PASSES,
        replayed=replayed,
        width=FEATURE if on == "feature" else PROJECTION,
        method__name="linear",
        strategy__name=name,
        strategy__align_criterion=criterion,
        strategy__align_on=on,
        strategy__use_aligner=use_aligner,
        strategy__align_weight=1.5,
        strategy__ema_decay=0.8,
        stream__batch_size=ROWS,
    )

    def head(state):  # of chain(chain(replay, align), recorder), chain(align, recorder)
        trained = state.params["strategy"][0]
        return trained[1] if memory else trained

    start = states[0]
    oracle = Oracle(
        learning, config, start, TEACHER[name], rows=replayed or ROWS, head=head(start)
    )
    for t, batch in enumerate(batches):
        oracle.batch(record, t, replayed=replayed, boundary=bool(batch.boundary))
        now = np.mean(oracle.losses[-PASSES:])
        np.testing.assert_allclose(metrics[t]["loss_align"], now, atol=2e-5)
    assert sum(loss != 0 for loss in oracle.losses) >= 4
    final = states[-1]
    for ours, theirs in (
        (final.params["method"], oracle.params["method"]),
        (head(final), oracle.params["head"]),
    ):
        for a, b in zip(bits(ours), bits(theirs), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5)


def trained(**fields):
    learning = tiny_learning(
        method__name="linear", stream__batch_size=ROWS, passes=1, **fields
    )
    step, batches = jax.jit(learning.step), arrivals(3)
    state, metrics = learning.init(jax.random.key(0), batches[0]), []
    for batch in batches:
        state, seen = step(state, batch)
        metrics.append(jax.device_get(seen))
    return state, metrics


@pytest.mark.parametrize("name", ["cla_r", "cassle_r", "cla_b", "cassle"])
def test_weight_zero_trains_as_without_alignment(light, name):
    plain, fields = {"strategy__name": "none"}, {"strategy__name": name}
    if name in REPLAYING:  # a FIFO draws no keys, so both memories hold the same
        plain = {"strategy__name": "er", "strategy__er__memory": "fifo"}
        fields[f"strategy__{name}__memory"] = "fifo"
    state, metrics = trained(strategy__align_weight=0.0, **fields)
    assert all(m["loss_align"] == 0 for m in metrics)
    without, _ = trained(**plain)
    for a, b in zip(
        bits(without.params["method"]), bits(state.params["method"]), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", RECIPES)
def test_the_head_is_as_wide_as_what_is_aligned_and_may_be_absent(name):
    def head(**fields):
        learning = tiny_learning(strategy__name=name, **fields)
        batch = next(iter(arrivals(1)))
        state = jax.eval_shape(learning.init, jax.random.key(0), batch)
        return {x.shape for x in jax.tree.leaves(state.params["strategy"])}

    for on, d in (("projection", PROJECTION), ("feature", FEATURE)):
        shapes = head(strategy__align_on=on)
        assert shapes == {(d, HIDDEN), (HIDDEN,), (HIDDEN, d), (d,)}
    assert head(strategy__use_aligner=False) == set()


@pytest.mark.parametrize("name", REPLAYING)
@pytest.mark.parametrize(
    ("on", "width"), [("projection", PROJECTION), ("feature", FEATURE)]
)
def test_stored_features_live_where_alignment_does(name, on, width):
    learning = tiny_learning(strategy__name=name, strategy__align_on=on)
    batch = arrivals(1)[0]
    state = jax.eval_shape(learning.init, jax.random.key(0), batch)
    images = lambda key, x: jnp.stack([x, x]).astype(jnp.float32)
    drawn = jax.eval_shape(
        lambda key, kept: learning.strategy.draw(key, kept, None, batch, images),
        jax.random.key(0),
        state.strategy,
    )
    assert drawn.stored.shape == (6, width)


def test_a_feature_replayed_in_three_passes_is_the_papers_sum(light, monkeypatch):
    batches = [b._replace(mask=jnp.ones(ROWS, bool)) for b in arrivals(2)]
    _, _, states, _, record = recorded(
        monkeypatch,
        batches,
        passes=3,
        replayed=7,
        width=PROJECTION,
        method__name="linear",
        strategy__name="cla_r",
    )

    def features(state):
        memory = state.strategy[0][0]  # of chain(chain(replay, align), recorder)
        return dict(zip(np.asarray(memory.items["id"]), memory.feature, strict=True))

    old, new = features(states[1]), features(states[2])
    drawn = record.id[3:, :7].tolist()  # by the three passes of the second batch
    thrice = set.intersection(*map(set, drawn))
    assert len(thrice) >= 5  # of eight rows each pass left one out
    for name in thrice:
        f1, f2, f3 = (record.z[3 + i, ids.index(name)] for i, ids in enumerate(drawn))
        expected = old[name] / 8 + f1 / 8 + f2 / 4 + f3 / 2
        np.testing.assert_allclose(new[name], expected, rtol=1e-5, atol=1e-6)


def batch_of(views, stored=None):
    """A batch of replayed rows, all real, in front of two of the stream."""
    n = views.shape[1]
    r = 0 if stored is None else n - 2
    ids = jnp.arange(n)
    return Batch(views, jnp.ones(n, bool), {"id": ids}, stored=stored, replayed=r)


SETTINGS = {
    "rows": "replay",
    "on": "projection",
    "criterion": "mse",
    "weight": 3.0,
    "hidden": 4,
    "use_aligner": False,
    "train_head": True,
}


def test_one_replayed_row_is_drawn_to_exactly_what_is_stored_with_it():
    z = jax.random.normal(jax.random.key(0), (VIEWS, 3, 5))
    target = jax.random.normal(jax.random.key(1), (1, 5))
    batch = batch_of(jnp.zeros((VIEWS, 3, *SHAPE)), target)
    part, learner = align(stored(), **SETTINGS), Learner({}, {}, None, None)
    _, state = part.init(jax.random.key(0), learner, None)

    def loss(z):
        out = Outputs(jnp.zeros(3), jnp.zeros((VIEWS, 3, 2)), z, {})
        return part.loss((), state, learner, batch, out)["align"]

    value, grad = jax.value_and_grad(loss)(z)
    rest = np.asarray(z[:, 0] - target)  # [v d]
    np.testing.assert_allclose(value, 3 * (rest**2).mean(), rtol=1e-5)
    np.testing.assert_allclose(grad[:, 0], 3 * 2 * rest / rest.size, rtol=1e-5)
    assert not np.any(grad[:, 1:])  # the stream's rows are not aligned


def test_stored_targets_are_tiled_view_by_view():
    kept = jnp.arange(6.0).reshape(2, 3)
    batch = replayed_rows(batch_of(jnp.zeros((3, 4, *SHAPE)), kept))
    batch = batch.replace(mask=jnp.array([True, False]))
    target, mask = stored().project((), None, batch, projection)
    np.testing.assert_array_equal(target, np.concatenate([kept] * 3))
    np.testing.assert_array_equal(mask, [True, False] * 3)


def test_only_replayed_rows_have_stored_targets():
    with pytest.raises(ValueError, match="only replayed rows"):
        stored().project((), None, batch_of(jnp.zeros((2, 4, *SHAPE))), projection)


def test_replayed_rows_are_the_first_of_everything():
    views = jax.random.normal(jax.random.key(0), (VIEWS, 5, *SHAPE))
    batch = batch_of(views, jnp.zeros((3, 2))).replace(objective=jnp.arange(5) > 1)
    seen = replayed_rows(batch)
    np.testing.assert_array_equal(seen.views, views[:, :3])
    np.testing.assert_array_equal(seen.items["id"], [0, 1, 2])
    np.testing.assert_array_equal(seen.objective, [False, False, True])
    assert seen.mask.shape == (3,)


def test_criteria_have_their_closed_forms():
    everything = jnp.ones(3, bool)
    p = jnp.array([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]])
    t = jnp.array([[3.0, 4.0], [0.0, 5.0], [0.0, -1.0]])
    cosine = CRITERIA["cosine"](None, p, 7 * t, everything)
    np.testing.assert_allclose(cosine, [-1.0, 0.0, 1.0], atol=1e-6)
    mse = CRITERIA["mse"](None, p, t, everything)
    np.testing.assert_allclose(mse, [0.0, (1 + 25) / 2, 9 / 2], rtol=1e-6)


def test_ssl_is_the_methods_own_objective():
    method = tiny_learning(
        strategy__name="none", method__simclr__temperature=0.3
    ).method
    p, t = jax.random.normal(jax.random.key(0), (2, 6, 5))
    mask = jnp.arange(6) < 4
    seen = CRITERIA["ssl"](method, p, t, mask)
    expected = nt_xent(p, t, mask, temperature=0.3)
    np.testing.assert_array_equal(seen, expected)
    np.testing.assert_array_equal(seen, method.distill(p, t, mask))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("rows", "stream", "'replay' or 'all'"),
        ("on", "pixels", "align_on must be one of projection, feature"),
        ("criterion", "l1", "align_criterion must be one of cosine, mse, ssl"),
    ],
)
def test_an_unknown_setting_is_answered_with_the_known_ones(field, value, words):
    with pytest.raises(ValueError, match=words):
        align(stored(), **(SETTINGS | {field: value}))
