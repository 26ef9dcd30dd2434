"""The papers' linear evaluation: what it equals, what it holds out, what it chooses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import method_of, stream, tiny_learning

from ocssl_jax.augment import make_view
from ocssl_jax.encoding import Encoder
from ocssl_jax.errors import TrainingError, UsageError
from ocssl_jax.probes import PROBES
from ocssl_jax.probes.heads import train
from ocssl_jax.probes.linear_augmented import (
    chosen,
    held_rows,
    linear_augmented,
    swept,
)
from ocssl_jax.probes.linear_sgd import _fitted, rates_of
from ocssl_jax.rows import Rows
from ocssl_jax.views import Views

N, SIDE = 90, 4
RNG = np.random.default_rng(0)
LABELS = np.array([2, 7, 40])[np.arange(N) % 3]
IMAGES = RNG.integers(0, 256, (N, SIDE, SIDE, 1), np.uint8) // 2
IMAGES[np.arange(N), np.arange(N) % 3] += 100  # a bright row says the class
SETTINGS = {
    "learning_rates": (0.3,),
    "held_out": 0.2,
    "epochs": 5,
    "batch_size": 16,
    "momentum": 0.9,
    "seed": 1,
}
KEY = jax.random.key(3)


def views(name="none", batch_size=32, watch=None):
    """The images seen through an encoder that flattens them, scaled by its weight."""
    see = make_view(name, image_size=SIDE, channels=1, mean=(0.5,), std=(0.5,))

    def encode(variables, images, keys):
        return variables["scale"] * see(keys, images).reshape(len(images), -1)

    more = {"watch": watch} if watch else {}
    encoder = Encoder(encode, batch_size=batch_size)
    return Views(encoder, {"scale": 1.0}, Rows(IMAGES, np.arange(N)), **more)


def plain(scale=1.0):
    return scale * (IMAGES.reshape(N, -1) / 255 - 0.5).astype(np.float32) / 0.5


def fitted(seen=None, x=None, y=LABELS, **changed):
    probe = linear_augmented(**(SETTINGS | changed))
    return probe.fit(KEY, seen or views(), plain() if x is None else x, y)


def trained(rates, held=(), epochs=4, x=None):
    return train(
        KEY,
        lambda: [plain() if x is None else x] * epochs,
        np.searchsorted([2, 7, 40], LABELS),
        np.asarray(held, int),
        rates=np.stack([rates_of(rate, epochs) for rate in rates]),
        batch_size=16,
        momentum=0.9,
    )


def test_without_augmentation_and_with_one_rate_it_is_linear_sgd():
    own = {k: SETTINGS[k] for k in ("epochs", "batch_size", "momentum")}
    cached = PROBES["linear_sgd"](learning_rate=0.3, **own)(KEY, plain(), LABELS)
    noise = np.random.default_rng(1).normal(size=(200, SIDE * SIDE))
    np.testing.assert_array_equal(fitted()(noise), cached(noise))
    weights = _fitted(
        KEY,
        jnp.asarray(plain()),
        jnp.asarray(np.searchsorted([2, 7, 40], LABELS)),
        jnp.asarray(rates_of(0.3, 4)),
        classes=3,
        batch_size=16,
        momentum=0.9,
    )
    beside = trained((0.1, 0.3), held=[4, 5, 6])
    for one, of in zip(weights, beside, strict=True):
        np.testing.assert_allclose(of[1], one, rtol=1e-4, atol=1e-5)


def test_side_by_side_is_as_alone():
    held = [0, 1, 2, 30]
    beside = trained((0.1, 1.0), held)
    for i, rate in enumerate((0.1, 1.0)):
        alone = trained((rate,), held)
        for part, own in zip(beside, alone, strict=True):
            np.testing.assert_allclose(part[i], own[0], rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(part[2 + i], own[1], rtol=1e-4, atol=1e-6)


def test_rows_held_out_move_no_classifier_that_they_judge():
    held = held_rows(5, LABELS, 0.2)
    changed = plain()
    changed[held] = np.random.default_rng(2).normal(size=(len(held), SIDE * SIDE))
    for part, other in zip(
        trained((0.1, 1.0), held), trained((0.1, 1.0), held, x=changed), strict=True
    ):
        np.testing.assert_array_equal(part[2:], other[2:])
        assert not np.allclose(part[:2], other[:2])


def test_a_diverging_rate_leaves_the_others_alone():
    with np.errstate(all="ignore"):
        beside = trained((0.1, 1e38), [1])
    assert not np.isfinite(beside.w[1]).all()
    np.testing.assert_allclose(beside.w[0], trained((0.1,)).w[0], rtol=1e-4, atol=1e-6)
    found = fitted(learning_rates=(1e38, 0.1))
    assert found.rate == 0.1 and np.isnan(found.tried[1e38])


def test_the_same_share_of_each_class_is_held_out_by_the_seed_alone():
    held = held_rows(5, LABELS, 0.2)
    np.testing.assert_array_equal(np.unique(LABELS[held], return_counts=True)[1], 6)
    np.testing.assert_array_equal(held, held_rows(5, LABELS, 0.2))
    assert set(held) != set(held_rows(6, LABELS, 0.2))
    with pytest.raises(UsageError, match=r"too few of them; give one rate \(--rates\)"):
        held_rows(5, np.array([0, 0, 0, 1]), 0.1)


def test_the_best_rate_on_rows_held_out_wins():
    """One rate moves next to nothing; the other learns what the bright row says."""
    found = fitted(learning_rates=(0.3, 1e-7), epochs=20)
    assert found.rate == 0.3 and list(found.tried) == [1e-7, 0.3]
    assert found.tried[0.3] > 95 > found.tried[1e-7]
    assert (found(plain()) == LABELS).mean() > 0.95
    assert fitted(learning_rates=(0.3,)).tried == {}


def test_of_weights_whose_judges_are_known_the_best_ones_partner_is_taken():
    """Judges of rates 1, 2, 3 are right on 1, 2 and 2 of two rows: 2 wins."""
    x, y = np.eye(2, dtype=np.float32), np.array([10, 20])
    right, half = np.eye(2), np.array([[1.0, 1.0], [0.0, 0.0]])
    w = jnp.asarray(np.stack([0 * right, -right, right, half, right, right]))
    weights = trained((0.1,))._replace(w=w, b=jnp.zeros((6, 2)))
    found = swept(weights, (1.0, 2.0, 3.0), y, x, y)
    assert found.tried == {1.0: 50.0, 2.0: 100.0, 3.0: 100.0} and found.rate == 2.0
    np.testing.assert_array_equal(found(x), [20, 10])  # of all rows, not the judge
    broken = weights._replace(w=w.at[1].set(jnp.nan))
    assert swept(broken, (1.0, 2.0, 3.0), y, x, y).rate == 3.0


def test_equally_good_rates_and_rates_that_all_break():
    assert chosen(np.array([50.0, 70.0, 70.0]), (0.1, 0.3, 1.0)) == 1
    assert chosen(np.array([np.nan, 0.0]), (0.1, 0.3)) == 1
    with pytest.raises(TrainingError, match=r"any learning rate of 10, 30; .*--rates"):
        chosen(np.full(2, np.nan), (10.0, 30.0))


def epochs_of(seen, count=2):
    return np.stack(list(seen.epochs(KEY, count)))


def test_views_are_new_each_epoch_and_the_same_whatever_the_block():
    found = epochs_of(views("crop_flip", batch_size=32))
    assert found.shape == (2, N, SIDE * SIDE)
    assert not np.allclose(found[0], found[1])
    for size in (1, 7, 90, 200):
        again = epochs_of(views("crop_flip", batch_size=size))
        np.testing.assert_allclose(again, found, atol=1e-5)
    np.testing.assert_allclose(epochs_of(views("none"))[1], plain(), atol=1e-5)


def test_some_of_the_views_are_of_these_images():
    rows = np.array([5, 80, 3])
    found = next(views().of(rows).epochs(KEY, 1))
    np.testing.assert_allclose(found, plain()[rows], atol=1e-5)


def test_who_watches_sees_every_block_and_may_end_it():
    told = []

    def watch(blocks, total):
        for block in blocks:
            told.append((len(block), total))
            if len(told) == 4:
                raise InterruptedError
            yield block

    with pytest.raises(InterruptedError):
        fitted(views(batch_size=40, watch=watch))
    assert told == [(40, 450), (40, 450), (10, 450), (40, 450)]


def test_the_same_key_gives_the_same_probe():
    one, two = (fitted(views("crop_flip"), learning_rates=(0.1, 1.0)) for _ in range(2))
    assert one.tried == two.tried and one.rate == two.rate


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"epochs": 0}, "at least 1"),
        ({"held_out": 1.0}, r"held_out must be in \(0, 1\)"),
        ({"momentum": 1.0}, r"momentum in \[0, 1\)"),
        ({"learning_rates": ()}, "at least one, each above 0"),
        ({"learning_rates": (0.1, 0.0)}, "at least one, each above 0"),
        ({"learning_rates": (1, 1.0)}, "must differ"),
    ],
)
def test_impossible_settings_are_refused(changed, words):
    with pytest.raises(ValueError, match=words):
        linear_augmented(**(SETTINGS | changed))


@pytest.mark.parametrize("strategy", ["none", "ae"])
def test_the_encoder_sees_views_as_it_sees_images_each_by_itself(strategy):
    """Running BN statistics, and what classifiers of `ae` look through, are kept."""
    fields = {
        "strategy__name": strategy,
        "method__name": method_of(strategy),
        "stream__epochs": 1 + (strategy == "ae"),
        "backbone__name": "convnet" if strategy == "none" else "mlp",
    }
    none, crop = (
        tiny_learning(**fields, probe__linear_augmented__augment=name)
        for name in ("none", "crop_flip")
    )
    first = next(stream(1, labelled=strategy == "ae"))
    variables = none.encoder(jax.jit(none.init)(jax.random.key(0), first))
    keys = jax.random.split(KEY, len(first.image))
    plain_, same = (
        jax.jit(none.encode)(variables, first.image),
        jax.jit(none.encode_views)(variables, first.image, keys),
    )
    np.testing.assert_allclose(same, plain_, rtol=1e-5, atol=1e-6)
    see = jax.jit(crop.encode_views)
    found = see(variables, first.image, keys)
    assert not np.allclose(found, plain_)
    alone = see(variables, first.image[1:3], keys[1:3])
    np.testing.assert_allclose(alone, found[1:3], rtol=1e-4, atol=1e-5)
