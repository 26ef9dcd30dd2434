import importlib
from functools import partial

import jax
import numpy as np
import pytest

from ocssl_jax.probes import PROBES, linear
from ocssl_jax.probes.plateau import Plateau, judge

module = importlib.import_module("ocssl_jax.probes.linear")  # the name is a function's
RULE = {"patience": 2, "factor": 3.0, "min_learning_rate": 1e-4}
SETTINGS = {"learning_rate": 0.05, "epochs": 12, "batch_size": 8, **RULE}


def blobs(seed, n, *, labels=(0, 1, 2), noise=0.05):
    """Separable data: one direction a class, lengths that say nothing."""
    rng = np.random.default_rng(seed)
    which = np.arange(n) % len(labels)
    x = np.eye(len(labels))[which] + noise * rng.normal(size=(n, len(labels)))
    return (rng.uniform(1, 50, (n, 1)) * x).astype(np.float32), np.asarray(labels)[
        which
    ]


def oracle(accuracies, rate, *, patience, factor, min_learning_rate):
    """The published rule as a loop; gives each epoch's rate and its best epoch."""
    best, best_epoch, left, rates = -1.0, None, patience, []
    for epoch, value in enumerate(accuracies):
        rates.append(rate)
        if value > best:
            best, best_epoch, left = value, epoch, patience
        else:
            left -= 1
            if left == 0:
                rate, left = rate / factor, patience
                if rate < min_learning_rate:
                    break
    return rates, best_epoch


def follow(accuracies, rate):
    state, rates, best_epoch, restores = Plateau(rate, left=0), [], None, []
    for epoch, value in enumerate(accuracies):
        rates.append(state.learning_rate)
        verdict = judge(state, value, **RULE)
        state = verdict.state
        best_epoch = epoch if verdict.improved else best_epoch
        restores += [epoch] if verdict.restore else []
        if verdict.stop:
            break
    return rates, best_epoch, restores


def test_plateau_rule_on_a_hand_written_script():
    script = [0.5, 0.6, 0.6, 0.5, 0.7, 0.6, 0.65, 0.6, 0.7]
    rates, best, restores = follow(script, 0.09)
    assert rates == pytest.approx([0.09] * 4 + [0.03] * 3 + [0.01] * 2)
    assert (best, restores) == (4, [3, 6, 8])


@pytest.mark.parametrize("seed", range(20))
def test_plateau_rule_follows_the_oracle(seed):
    script = np.random.default_rng(seed).integers(0, 30, 60) / 30
    rates, best, _ = follow(script, 0.05)
    assert (rates, best) == oracle(script, 0.05, **RULE)


def test_a_flat_validation_curve_ends_after_six_divisions_of_the_rate():
    rates, best, restores = follow([0.0] * 100, 0.05)
    assert (len(rates), best, len(restores)) == (1 + 6 * 2, 0, 6)
    assert rates[-1] == pytest.approx(0.05 / 3**5)  # .00021, the next is too small


def test_weights_follow_the_rule_and_moments_are_kept(monkeypatch):
    """Each epoch adds 1 to the weights, so a value tells where its epoch began."""
    script = iter([0.5, 0.4, 0.3, 0.9, 0.1])
    seen, keys = [], []

    def epoch(key, weights, moments, rate, data):
        keys.append(tuple(jax.random.key_data(key).tolist()))
        seen.append((float(weights.w[0, 0]), moments, float(rate)))
        return jax.tree.map(lambda a: a + 1, weights), moments + 1

    monkeypatch.setattr(module, "_accuracy", lambda *_: next(script))
    monkeypatch.setattr(
        module,
        "first_weights",
        lambda *_: module.Weights(np.zeros((1, 1)), np.zeros(1)),
    )
    monkeypatch.setattr(module, "ADAM", module.ADAM._replace(init=lambda _: 0))
    rule = lambda state, value: judge(state, value, **RULE)
    data = (np.zeros((1, 1)), np.zeros(1))
    best = module._fit(jax.random.key(0), data, (0, 0), 1, epoch, 5, 0.09, rule)
    assert [row[0] for row in seen] == [0, 1, 2, 1, 2]  # back to 1 after two misses
    assert [row[1] for row in seen] == [0, 1, 2, 3, 4]  # moments never go back
    assert [row[2] for row in seen] == pytest.approx([0.09] * 3 + [0.03] * 2)
    assert len(set(keys)) == 5  # each epoch has a shuffle of its own
    assert best.w[0, 0] == 2  # the end of the fourth epoch


def test_a_separable_toy_is_learnt_whatever_the_length_of_its_features():
    x, y = blobs(0, 60)
    predict = linear(**SETTINGS)(jax.random.key(0), x, y, *blobs(1, 30))
    test_x, test_y = blobs(2, 90)
    np.testing.assert_array_equal(predict(test_x), test_y)
    np.testing.assert_array_equal(predict(1e3 * test_x), test_y)


def test_the_length_of_a_feature_vector_says_nothing():
    """Overlapping classes, so that other weights would give other labels."""
    (x, y), held = blobs(0, 60, noise=0.8), blobs(1, 30, noise=0.8)
    test_x, _ = blobs(2, 300, noise=0.8)
    length = np.float32(2) ** np.random.default_rng(0).integers(-4, 5, (60, 1))
    fit = linear(**SETTINGS | {"epochs": 2})
    expected = fit(jax.random.key(0), x, y, *held)(test_x)
    got = fit(jax.random.key(0), length * x, y, held[0] / 8, held[1])(4 * test_x)
    np.testing.assert_array_equal(got, expected)


def test_any_integers_may_be_labels_and_unknown_ones_count_as_wrong():
    labels = (-4, 7, 100)
    x, y = blobs(0, 60, labels=labels)
    val_x, val_y = blobs(1, 30, labels=labels)
    unknown = np.full(30, 8)  # between two known labels
    fit = linear(**SETTINGS)
    predict = fit(
        jax.random.key(0),
        x,
        y,
        np.concatenate([val_x, val_x]),
        np.concatenate([val_y, unknown]),
    )
    np.testing.assert_array_equal(predict(x), y)
    same = linear(**SETTINGS)(jax.random.key(0), *blobs(0, 60), *blobs(1, 30))
    np.testing.assert_array_equal(np.asarray(labels)[same(x)], predict(x))
    _, positions = module._validation(val_x, unknown, np.asarray(labels))
    assert (positions == -1).all()


def test_the_key_alone_decides_the_weights():
    def scores(seed):
        hard = {"noise": 0.8}
        fit = linear(**SETTINGS | {"epochs": 2})
        predict = fit(
            jax.random.key(seed), *blobs(0, 60, **hard), *blobs(1, 30, **hard)
        )
        return predict(blobs(2, 300, **hard)[0])

    np.testing.assert_array_equal(scores(0), scores(0))
    assert (scores(0) != scores(1)).any()


def test_the_key_decides_the_shuffles(monkeypatch):
    """With equal first weights, what remains of the key is the order of the rows."""
    zero = module.Weights(np.zeros((3, 3), np.float32), np.zeros(3, np.float32))
    monkeypatch.setattr(module, "first_weights", lambda *_: zero)
    x, y = blobs(0, 60, noise=0.8)
    data = (module._normalised(x), np.asarray(y, np.int32))
    epoch = partial(module._epoch, batch_size=8)
    rule = partial(judge, **RULE)

    def weights(seed):
        key = jax.random.key(seed)
        return np.asarray(module._fit(key, data, data, 3, epoch, 1, 0.05, rule).w)

    np.testing.assert_array_equal(weights(0), weights(0))
    assert (weights(0) != weights(1)).any()


def test_a_second_call_of_equal_shapes_compiles_nothing():
    def call(seed, learning_rate):
        fit = linear(**SETTINGS | {"learning_rate": learning_rate})
        fit(jax.random.key(seed), *blobs(seed, 60), *blobs(1, 30))(blobs(2, 20)[0])

    def compiled():
        return module._epoch._cache_size(), module.labels_of._cache_size()

    call(0, 0.05)
    before = compiled()
    call(3, 0.02)
    assert compiled() == before


def test_an_epoch_drops_the_last_partial_batch():
    """Rows of the dropped part have no effect: one step equals one step of Adam."""
    x, y = blobs(0, 11)
    data = (module._normalised(x), np.asarray(y, np.int32))
    key, rate = jax.random.key(0), np.float32(0.05)
    start = module.first_weights(key, 3, 3)
    order = np.asarray(jax.random.permutation(key, 11))
    got, moments = module._epoch(
        key, start, module.ADAM.init(start), rate, data, batch_size=8
    )
    assert int(moments.count) == 1
    first = order[:8]
    gradient = jax.grad(module.softmax_loss)(start, data[0][first], data[1][first])
    by_hand = jax.tree.map(  # Adam's first step is the sign of the gradient
        lambda w, g: w - rate * g / (np.abs(g) + 1e-8), start, gradient
    )
    for a, b in zip(got, by_hand, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_less_than_a_batch_of_data_is_one_batch():
    x, y = blobs(0, 5)
    fit = linear(**SETTINGS | {"epochs": 60, "batch_size": 256, "patience": 60})
    np.testing.assert_array_equal(fit(jax.random.key(0), x, y, x, y)(x), y)


def test_the_start_is_uniform_within_the_inverse_root_of_the_features():
    start = module.first_weights(jax.random.key(0), 400, 50)
    for part in start:
        assert np.abs(part).max() <= 0.05
        assert np.std(part) == pytest.approx(0.1 / 12**0.5, rel=0.2)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ((*blobs(0, 6), None, None), "needs a validation set"),
        ((*blobs(0, 6), np.zeros((0, 3)), np.zeros(0, int)), "needs a validation set"),
        ((blobs(0, 6)[0], np.zeros(5, int), *blobs(1, 3)), r"\[6, 3\] and \[5\]"),
        ((np.full((2, 3), np.nan), np.zeros(2, int), *blobs(1, 3)), "finite"),
        ((*blobs(0, 6), blobs(1, 3)[0], np.ones(3)), "validation labels must be int"),
    ],
)
def test_bad_data_fails_in_words(data, says):
    with pytest.raises(ValueError, match=says):
        linear(**SETTINGS)(jax.random.key(0), *data)


@pytest.mark.parametrize(
    "bad", [{"epochs": 0}, {"factor": 1.0}, {"learning_rate": 0.0}]
)
def test_bad_settings_fail_in_words(bad):
    with pytest.raises(ValueError, match="must be"):
        linear(**SETTINGS | bad)


def test_the_registry_names_every_probe():
    assert set(PROBES) == {"linear", "linear_sgd", "ridge", "knn"}
