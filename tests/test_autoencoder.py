"""The autoencoder of the hybrid: its sizes, and each layer against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ocssl_jax.autoencoder import (
    Up,
    make_autoencoder,
    pictured,
    signed,
    to_pixels,
)

CIFAR = (32, 32, 3)
SHAPE, WIDTH = (16, 8, 2), 3


def numbers(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


def test_the_papers_autoencoder_has_its_sizes():
    made = make_autoencoder(CIFAR, width=20)
    params = jax.eval_shape(made.init, jax.random.key(0))["params"]
    inward = {k: v for k, v in params.items() if k.startswith(("down", "inner"))}
    outward = {k: v for k, v in params.items() if k.startswith(("up", "outer"))}
    assert numbers(params) == 44_160
    assert (numbers(inward), numbers(outward)) == (22_080, 22_080)


def test_an_image_has_9_6_times_the_numbers_of_its_code():
    made = make_autoencoder(CIFAR, width=20)
    variables = jax.eval_shape(made.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((1, *CIFAR), jnp.float32)
    code = jax.eval_shape(lambda v, x: made.encode(v, x, train=False), variables, x)
    assert code.shape == (1, 320) and code.dtype == jnp.float32
    assert x.size / code.size == pytest.approx(9.6)


def test_layers_start_as_pytorchs_do():
    """Uniform within 1 / sqrt(fan_in), that of a transposed layer over its outputs."""
    params = make_autoencoder(CIFAR, width=20).init(jax.random.key(0))["params"]
    for name, fan_in in {
        ("down_0",): 48,
        ("down_1",): 320,
        ("inner_0", "conv3"): 180,
        ("outer_1", "conv1"): 20,
        ("outer_1", "bias1"): 20,
        ("up_0", "Conv_0"): 320,
        ("up_2", "Conv_0"): 48,
    }.items():
        layer = params
        for part in name:
            layer = layer[part]
        for weights in jax.tree.leaves(layer):
            top = float(jnp.abs(weights).max())
            assert top <= fan_in**-0.5
            assert top > 0.7 * fan_in**-0.5


def correlated(x, kernel, stride, pad):
    """[n h w i] with [k k i o], place by place."""
    k = len(kernel)
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows = range(0, x.shape[1] - k + 1, stride)
    columns = range(0, x.shape[2] - k + 1, stride)
    out = np.zeros((len(x), len(rows), len(columns), kernel.shape[3]))
    for a, i in enumerate(rows):
        for b, j in enumerate(columns):
            window = x[:, i : i + k, j : j + k]
            out[:, a, b] = np.tensordot(window, kernel, axes=([1, 2, 3], [0, 1, 2]))
    return out


def spread_out(x, kernel):
    """Transposed convolution 4x4, stride 2, padding 1: each value adds its kernel."""
    n, h, w, _ = x.shape
    out = np.zeros((n, 2 * h + 2, 2 * w + 2, kernel.shape[3]))
    for i in range(h):
        for j in range(w):
            part = np.tensordot(x[:, i, j], kernel, axes=([1], [2]))
            out[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += part
    return out[:, 1:-1, 1:-1]


def test_a_transposed_convolution_is_the_adjoint_of_a_strided_one():
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 2))
    layer = Up(4)
    variables = layer.init(jax.random.key(0), jnp.asarray(x, jnp.float32))
    kernel = np.asarray(variables["params"]["Conv_0"]["kernel"], np.float64)
    found = layer.apply(variables, jnp.asarray(x, jnp.float32))
    expected = spread_out(x, kernel[::-1, ::-1])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def random():
    """An autoencoder, and variables in which every number matters."""
    made = make_autoencoder(SHAPE, width=WIDTH)
    variables = made.init(jax.random.key(1))
    rng = np.random.default_rng(2)
    move = lambda x: x + jnp.asarray(rng.uniform(0.1, 0.3, x.shape), x.dtype)
    return made, jax.tree.map(move, variables)


class Written:
    """The network, written out in NumPy."""

    def __init__(self, variables, rows=None):
        f64 = lambda x: np.asarray(x, np.float64)
        self.params = jax.tree.map(f64, variables["params"])
        self.stats = jax.tree.map(f64, variables["batch_stats"])
        self.rows = rows  # whose statistics BN has; None: the running ones

    def norm(self, x, *path):
        p, s = self.params, self.stats
        for part in path:
            p, s = p[part], s[part]
        mean, var = s["mean"], s["var"]
        if self.rows is not None:
            real = x[self.rows].reshape(-1, x.shape[-1])
            mean, var = real.mean(axis=0), real.var(axis=0)
        return (x - mean) / np.sqrt(var + 1e-5) * p["scale"] + p["bias"]

    def block(self, x, name):
        p = self.params[name]
        y = correlated(np.maximum(x, 0), p["conv3"]["kernel"], 1, 1)
        y = self.norm(y + p["bias3"], name, "norm")
        y = correlated(np.maximum(y, 0), p["conv1"]["kernel"], 1, 0)
        return x + y + p["bias1"]

    def encode(self, x):
        for i in range(3):
            y = correlated(x, self.params[f"down_{i}"]["kernel"], 2, 1)
            x = np.maximum(self.norm(y, f"down_norm_{i}"), 0)
        x = self.norm(self.block(x, "inner_0"), "inner_norm_0")
        return self.block(x, "inner_1").reshape(len(x), -1)

    def decode(self, code):
        x = code.reshape(len(code), SHAPE[0] // 8, SHAPE[1] // 8, WIDTH)
        for i in range(2):
            x = self.norm(self.block(x, f"outer_{i}"), f"outer_norm_{i}")
        for i in range(3):
            kernel = self.params[f"up_{i}"]["Conv_0"]["kernel"][::-1, ::-1]
            x = spread_out(x, kernel)
            if i < 2:
                x = np.maximum(self.norm(x, f"up_norm_{i}"), 0)
        return np.tanh(x)


def images(n):
    return np.random.default_rng(3).uniform(-1, 1, (n, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("train", [False, True])
def test_both_halves_are_the_network_written_out(random, train):
    made, variables = random
    real = np.array([True, False, True, True])
    x = images(4)
    written = Written(variables, np.flatnonzero(real) if train else None)
    code = made.encode(variables, x, train=train, mask=jnp.asarray(real))
    expected = written.encode(x.astype(np.float64))
    np.testing.assert_allclose(code[real], expected[real], rtol=2e-3, atol=2e-3)
    decoded = made.decode(variables, code, train=train, mask=jnp.asarray(real))
    again = written.decode(np.asarray(code, np.float64))
    np.testing.assert_allclose(decoded[real], again[real], rtol=2e-3, atol=2e-3)


def test_the_loss_is_the_mean_square_of_real_rows_alone(random):
    made, variables = random
    real = np.array([True, True, False, True])
    x = images(4)
    params, stats = variables["params"], variables["batch_stats"]
    x[2] = np.nan  # a masked row may hold anything
    loss = jax.value_and_grad(made.loss, has_aux=True)
    (value, moved), slope = loss(params, stats, jnp.asarray(x), jnp.asarray(real))
    written = Written(variables, slice(None))
    kept = x[real].astype(np.float64)
    error = np.square(written.decode(written.encode(kept)) - kept).mean()
    np.testing.assert_allclose(value, error, rtol=1e-4)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(slope))
    still = [slope[n][b] for n in ("outer_0", "outer_1") for b in ("bias1", "bias3")]
    assert not any(map(np.any, still))  # the norms that follow take these biases away
    assert np.any(slope["inner_1"]["bias1"])
    first = correlated(kept, written.params["down_0"]["kernel"], 2, 1)
    mean = 0.9 * np.asarray(stats["down_norm_0"]["mean"]) + 0.1 * first.mean((0, 1, 2))
    np.testing.assert_allclose(moved["down_norm_0"]["mean"], mean, rtol=1e-4)


def test_pixels_come_back():
    image = jnp.arange(256, dtype=jnp.uint8).reshape(1, 16, 16, 1)
    x = signed(image)
    assert float(x.min()) == -1 and float(x.max()) == 1
    np.testing.assert_array_equal(to_pixels(x), image)


def test_codes_can_be_looked_at(random):
    made, variables = random
    code = made.encode(variables, images(3), train=False)
    seen = to_pixels(made.decode(variables, code, train=False))
    np.testing.assert_array_equal(pictured(variables, code, SHAPE), seen)


def test_images_that_do_not_shrink_to_whole_numbers_are_refused():
    words = r"multiples of 8 \(stream.image_size\), got 28 x 28"
    with pytest.raises(ValueError, match=words):
        make_autoencoder((28, 28, 1), width=20)
