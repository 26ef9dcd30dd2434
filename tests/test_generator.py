"""The generator against NumPy, and the search of latents against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ocssl_jax.generator import bernoulli, divergence, elbo, make_vae
from ocssl_jax.latents import finite_or, search

SHAPE, LATENT = (4, 4, 1), 3


def vae(dropout=0.0):
    return make_vae(SHAPE, hidden=8, latent=LATENT, depth=2, dropout=dropout)


def images(n=5):
    return np.random.default_rng(0).uniform(size=(n, *SHAPE)).astype(np.float32)


def test_the_papers_generator_has_its_size():
    made = make_vae((28, 28, 1), hidden=128, latent=50, depth=2, dropout=0.0)
    params = jax.eval_shape(made.init, jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(params)) == 254_068


def linear(layer, x):
    return x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"])


def through(params, name, x):
    for i in range(2):
        x = np.maximum(linear(params[f"{name}_{i}"], x), 0)
    return x


def test_the_loss_is_that_of_a_numpy_formula():
    """The noise is all but switched off, so that the latent is its mean."""
    made, x = vae(), images()
    params = made.init(jax.random.key(1))
    params["variance"] = {
        "kernel": jnp.zeros_like(params["variance"]["kernel"]),
        "bias": jnp.full(LATENT, -50.0),
    }
    mask = np.array([True, True, False, True, True])
    x[2] = np.nan  # a masked row may hold anything
    found = made.losses(params, jax.random.key(2), jnp.asarray(x), jnp.asarray(mask))
    flat = x[mask].reshape(4, -1).astype(np.float64)
    mean = linear(params["mean"], through(params, "inward", flat))
    p = 1 / (1 + np.exp(-linear(params["pixels"], through(params, "outward", mean))))
    rec = -(flat * np.log(p) + (1 - flat) * np.log(1 - p)).sum(axis=1).mean()
    np.testing.assert_allclose(found.reconstruction, rec, rtol=1e-4)
    decoded = made.decode(params, jnp.asarray(mean, jnp.float32))
    np.testing.assert_allclose(decoded.reshape(4, -1), p, rtol=1e-4)
    np.testing.assert_allclose(
        elbo(found, 0.5), found.reconstruction + 0.5 * found.divergence, rtol=1e-6
    )


def test_the_divergence_is_that_of_normals_on_average():
    mean, variance = jnp.array([[0.5, -1.0]]), jnp.array([[0.3, 2.0]])
    noise = jax.random.normal(jax.random.key(0), (40_000, 2))
    found = divergence(mean + jnp.sqrt(variance) * noise, mean, variance).mean()
    m, v = np.asarray(mean), np.asarray(variance)
    expected = 0.5 * (m**2 + v - 1 - np.log(v)).sum()
    np.testing.assert_allclose(found, expected, rtol=0.03)


def test_pixels_that_are_certain_cost_no_infinity():
    ones = jnp.ones((1, *SHAPE))
    assert np.isfinite(bernoulli(ones, 0 * ones)).all()
    np.testing.assert_allclose(bernoulli(ones, ones), 16e-6, rtol=0.1)


def test_dropout_and_noise_are_those_of_the_key():
    made, x, real = vae(0.5), jnp.asarray(images()), jnp.full(5, True)
    params = made.init(jax.random.key(1))
    loss = lambda key, **way: float(
        elbo(made.losses(params, jax.random.key(key), x, real, **way), 1.0)
    )
    assert loss(0) == loss(0) != loss(1)
    assert loss(0) != loss(0, train=False)


@pytest.mark.parametrize("fresh", [False, True])
def test_the_search_is_a_loop_over_chunks_and_steps(fresh):
    """Gain -mean |z - c - noise|^2, whose gradient is known."""
    m, b, steps, diversity, shell = 3, 4, 5, 0.7, 0.2
    start = np.random.default_rng(1).normal(size=(m, b, LATENT))
    target, key = np.array([1.0, 2.0, -1.0]), jax.random.key(5)
    noise = lambda k: 0.1 * jax.random.normal(k, (LATENT,))
    found = search(
        key,
        lambda k, z: -jnp.mean(jnp.sum((z - (target + noise(k))[None]) ** 2, axis=1)),
        jnp.asarray(start, jnp.float32),
        steps=steps,
        diversity=diversity,
        shell=shell,
        fresh_noise=fresh,
    )
    done = []
    for i in range(m):
        z, own = start[i].copy(), jax.random.fold_in(key, i)
        for step in range(steps):
            drawn = np.asarray(noise(jax.random.fold_in(own, step) if fresh else own))
            slope = -2 * (z - target - drawn) / b
            for other in done:
                slope += diversity * 2 * (z - other) / (b * LATENT) / len(done)
            norm = np.linalg.norm(z, axis=1, keepdims=True)
            slope -= shell * 2 * (norm - LATENT**0.5) * z / norm / b
            z = z + slope
        done.append(z)
    np.testing.assert_allclose(found, np.stack(done), rtol=1e-4, atol=1e-5)


def test_a_search_that_went_astray_is_given_up_as_a_whole():
    fresh, found = jnp.zeros((2, 3)), jnp.ones((2, 3))
    kept, lost = finite_or(fresh, found)
    assert (kept == found).all() and lost == 0
    kept, lost = finite_or(fresh, found.at[1, 2].set(jnp.nan))
    assert (kept == fresh).all() and lost == 1
