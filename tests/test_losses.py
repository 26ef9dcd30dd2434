"""Closed forms and invariances of the objectives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ocssl_jax.losses import cosine, masked_mean, nt_xent, unit

ALL = lambda n: jnp.ones(n, bool)


def loss(z1, z2, temperature=0.5):
    n = len(z1)
    return float(masked_mean(nt_xent(z1, z2, ALL(n), temperature=temperature), ALL(n)))


@pytest.mark.parametrize("n", [1, 2, 7])
def test_nt_xent_of_equal_embeddings_is_log_of_the_others(n):
    z = jnp.ones((n, 5))
    assert loss(z, z) == pytest.approx(np.log(2 * n - 1), abs=1e-5)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_nt_xent_of_orthogonal_rows_with_identical_views(temperature):
    n = 6
    z = 3.0 * jnp.eye(n)
    expected = np.log(1 + (2 * n - 2) * np.exp(-1 / temperature))
    assert loss(z, z, temperature) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_nt_xent_against_the_formula_written_out():
    rng = np.random.default_rng(0)
    z1, z2 = rng.normal(size=(2, 5, 8))
    u = np.concatenate([z1, z2])
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    terms = []
    for i in range(10):
        pos = (i + 5) % 10
        s = [u[i] @ u[k] / 0.3 for k in range(10)]
        others = sum(np.exp(s[k]) for k in range(10) if k != i)
        terms.append(-np.log(np.exp(s[pos]) / others))
    got = loss(jnp.asarray(z1, jnp.float32), jnp.asarray(z2, jnp.float32), 0.3)
    assert got == pytest.approx(np.mean(terms), rel=1e-5)


def test_nt_xent_is_symmetric_in_views_and_rows():
    rng = np.random.default_rng(1)
    z1, z2 = jnp.asarray(rng.normal(size=(2, 6, 4)), jnp.float32)
    order = rng.permutation(6)
    assert loss(z1, z2) == pytest.approx(loss(z2, z1), rel=1e-6)
    assert loss(z1, z2) == pytest.approx(loss(z1[order], z2[order]), rel=1e-5)


def test_masked_rows_are_as_if_absent():
    rng = np.random.default_rng(2)
    z1, z2 = jnp.asarray(rng.normal(size=(2, 6, 4)), jnp.float32)
    mask = jnp.asarray([True, False, True, True, False, True])

    def masked(z1, z2):
        return masked_mean(nt_xent(z1, z2, mask, temperature=0.5), mask)

    rows = nt_xent(z1, z2, mask, temperature=0.5)
    assert float(masked(z1, z2)) == pytest.approx(loss(z1[mask], z2[mask]), rel=1e-5)
    assert np.all(np.asarray(rows)[~np.asarray(mask)] == 0)
    gradient = jax.grad(masked)(z1, z2)
    assert np.all(np.asarray(gradient)[~np.asarray(mask)] == 0)
    assert np.all(np.asarray(gradient)[np.asarray(mask)] != 0)


def test_nothing_is_infinite_at_zero_vectors_or_without_rows():
    zero, none = jnp.zeros((3, 4)), jnp.zeros(3, bool)
    for mask in (ALL(3), none):
        f = lambda z, mask=mask: masked_mean(
            nt_xent(z, zero, mask, temperature=0.1), mask
        )
        value, gradient = jax.value_and_grad(f)(zero)
        assert np.isfinite(value) and np.isfinite(gradient).all()
    assert float(masked_mean(jnp.ones(3), none)) == 0
    assert np.isfinite(jax.grad(lambda x: unit(x).sum())(jnp.zeros(4))).all()


def test_unit_and_cosine():
    x = jnp.asarray([[3.0, 4.0], [0.0, 2.0]])
    np.testing.assert_allclose(unit(x), [[0.6, 0.8], [0.0, 1.0]], rtol=1e-6)
    np.testing.assert_allclose(cosine(x, -x), [-1, -1], rtol=1e-6)
    np.testing.assert_allclose(cosine(x, x[::-1]), [0.8, 0.8], rtol=1e-6)
