"""The SSL papers' linear probe: its schedule, its fixed point, its errors."""

import jax
import numpy as np
import pytest

from ocssl_jax.probes import PROBES
from ocssl_jax.probes.linear_sgd import rates_of

SETTINGS = {"learning_rate": 0.1, "epochs": 10, "batch_size": 16, "momentum": 0.9}
RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(3, 6)) * 3
LABELS = np.array([2, 7, 40])[np.arange(120) % 3]
X = (CENTRES[np.arange(120) % 3] + RNG.normal(size=(120, 6))).astype(np.float32)


def fitted(x=X, y=LABELS, key=0, **changed):
    fit = PROBES["linear_sgd"](**(SETTINGS | changed))
    return fit(jax.random.key(key), x, y)


def test_it_separates_what_is_separable_whatever_the_labels_are_called():
    assert (fitted()(X) == LABELS).mean() > 0.97
    assert set(fitted()(X)) <= {2, 7, 40}


def test_the_same_key_gives_the_same_probe_and_validation_data_change_nothing():
    fit = PROBES["linear_sgd"](**(SETTINGS | {"epochs": 1}))
    alone = fit(jax.random.key(1), X, LABELS)
    beside = fit(jax.random.key(1), X, LABELS, X[:5], LABELS[:5])
    noise = np.random.default_rng(3).normal(size=(50, 6))
    np.testing.assert_array_equal(alone(noise), beside(noise))


def test_fewer_samples_than_a_batch_are_one_batch():
    assert len(fitted(X[:7], LABELS[:7])(X)) == 120


def test_the_rate_is_cut_twice():
    """As PyTorch's MultiStepLR with milestones at 60 and 80 % of the epochs."""
    rates = rates_of(1.0, 10)
    np.testing.assert_allclose(rates, [1] * 6 + [0.1] * 2 + [0.01] * 2)
    np.testing.assert_allclose(rates_of(0.3, 1), [0.3])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"epochs": 0}, "at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"momentum": 1.0}, r"momentum in \[0, 1\)"),
    ],
)
def test_impossible_settings_are_refused(changed, words):
    with pytest.raises(ValueError, match=words):
        fitted(**changed)
