"""The explicit gradients are those of autodiff, in every program that may hold them."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ocssl_jax.backbones import conv as conv_file
from ocssl_jax.backbones import products
from ocssl_jax.backbones.conv import Conv, conv
from ocssl_jax.backbones.linear import uniform_fan_in

CASES = [  # (height, width, kernel, stride, padding)
    (5, 6, 1, 1, "SAME"),
    (7, 5, 1, 2, "SAME"),
    (6, 6, 3, 1, ((1, 1), (1, 1))),
    (7, 8, 3, 2, ((1, 1), (1, 1))),
    (8, 7, 3, 2, "SAME"),
    (7, 6, 3, 2, "VALID"),
    (6, 9, 3, 2, ((2, 0), (0, 3))),  # uneven, and wider than the kernel needs
    (9, 8, 7, 2, ((3, 3), (3, 3))),
    (3, 3, 7, 1, ((3, 3), (3, 3))),  # kernel larger than the image
]


def cpu_form(dtype):
    return "products" if dtype == jnp.bfloat16 else "explicit"


@pytest.fixture(autouse=True)
def as_on_a_cpu(monkeypatch):
    """Test a CPU's forms on any backend."""
    monkeypatch.setattr(conv_file, "form", cpu_form)


def example(height, width, size, dtype=jnp.float32):
    kx, kw = jax.random.split(jax.random.key(0))
    x = jax.random.normal(kx, (2, height, width, 3)).astype(dtype)
    return x, jax.random.normal(kw, (size, size, 3, 4)).astype(dtype)


def ours(stride, padding):
    return lambda x, w: conv(x, w, strides=(stride, stride), padding=padding)


def plain(stride, padding):
    return lambda x, w: lax.conv_general_dilated(
        x, w, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def value_and_pullback(f):
    """x, w -> f(x, w) and its gradients for a fixed, uneven cotangent."""

    def run(x, w):
        y, pullback = jax.vjp(f, x, w)
        return y, pullback(jnp.cos(jnp.arange(y.size)).reshape(y.shape).astype(y.dtype))

    return run


@pytest.mark.parametrize(
    ("form", "changed"),
    [
        ("explicit", {"LARGE": 0}),
        ("explicit", {"RAW": 2}),  # the example's 3 channels are not a data set's
        ("explicit", {}),
        ("products", {}),
    ],
    ids=["kernel by products", "convs", "convs of raw images", "products"],
)
@pytest.mark.parametrize(("h", "w", "size", "stride", "padding"), CASES)
def test_gradients_equal_autodiff(
    h, w, size, stride, padding, form, changed, monkeypatch
):
    monkeypatch.setattr(conv_file, "form", lambda dtype: form)
    for name, value in changed.items():
        monkeypatch.setattr(conv_file, name, value)
    args = example(h, w, size)
    expected = jax.jit(value_and_pullback(plain(stride, padding)))(*args)
    program = jax.jit(value_and_pullback(ours(stride, padding)))
    for _ in range(2):  # the second call of a compiled program gives the same
        got = program(*args)
        chex.assert_trees_all_close(got, expected, rtol=1e-5, atol=1e-5)


def test_gradient_equals_finite_difference():
    x, w = example(4, 5, 3)
    loss = lambda x, w: jnp.sum(jnp.sin(ours(2, "SAME")(x, w)))
    dw = jax.grad(loss, argnums=1)(x, w)
    step = jnp.zeros_like(w).at[0, 2, 1, 3].set(1e-2)
    slope = (loss(x, w + step) - loss(x, w - step)) / 2e-2
    np.testing.assert_allclose(dw[0, 2, 1, 3], slope, rtol=1e-3)


@pytest.mark.parametrize("form", ["explicit", "products"])
@pytest.mark.parametrize("stride", [1, 2])
def test_inside_vmap_scan_map_and_cond(stride, form, monkeypatch):
    monkeypatch.setattr(conv_file, "form", lambda dtype: form)
    pads = ((1, 1), (1, 1))
    x, w = example(5, 6, 3)
    xs, ws = jnp.stack([x, 2 * x, x + 1]), jnp.stack([w, w - 1, -w])
    run, oracle = (value_and_pullback(f(stride, pads)) for f in (ours, plain))
    expected = [oracle(x, w) for x, w in zip(xs, ws, strict=True)]
    expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *expected)
    programs = {
        "vmap": jax.vmap(run),
        "scan": lambda xs, ws: lax.scan(lambda c, a: (c, run(*a)), 0, (xs, ws))[1],
        "map of cond": lambda xs, ws: lax.map(
            lambda a: lax.cond(jnp.sum(a[0]) < jnp.inf, run, oracle, *a), (xs, ws)
        ),
    }
    for name, program in programs.items():
        got = jax.jit(program)(xs, ws)
        chex.assert_trees_all_close(
            got, expected, rtol=1e-4, atol=1e-4, custom_message=name
        )


def test_vmap_over_kernels_alone():
    x, w = example(5, 5, 3)
    ws = jnp.stack([w, 2 * w])
    pads = ((1, 1), (1, 1))
    dws = jax.jit(jax.vmap(jax.grad(lambda w: jnp.sum(ours(2, pads)(x, w) ** 2))))(ws)
    dw = jax.grad(lambda w: jnp.sum(plain(2, pads)(x, w) ** 2))
    chex.assert_trees_all_close(dws, jnp.stack([dw(w) for w in ws]), rtol=1e-4)


@pytest.mark.parametrize(("h", "w", "size", "stride", "padding"), CASES)
def test_bfloat16_stays_bfloat16_and_close(h, w, size, stride, padding):
    args = example(h, w, size, jnp.bfloat16)
    got = jax.jit(value_and_pullback(ours(stride, padding)))(*args)
    chex.assert_type(jax.tree.leaves(got), jnp.bfloat16)
    wide = [a.astype(jnp.float32) for a in args]
    exact = value_and_pullback(plain(stride, padding))(*wide)
    # Summed in float32, a result is off by its own rounding and that of cos(...) alone.
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(exact), strict=True):
        gap = np.abs(a.astype(jnp.float32) - b).max()
        assert gap <= 2**-7 * np.abs(b).max()


@pytest.mark.parametrize("images", [1, 2, 3])
def test_blocks_of_any_size_give_the_same(monkeypatch, images):
    """Of five images: one at a time, two and a rest of one, three and two."""
    x = jax.random.normal(jax.random.key(0), (5, 6, 7, 3))
    w = jax.random.normal(jax.random.key(1), (3, 3, 3, 4))
    pads, each = ((1, 1), (1, 1)), 6 * 7 * 27 * 4
    monkeypatch.setattr(products, "BLOCK", images * each)
    look = products.Look((3, 3), (1, 1), pads)
    assert products.block(x, look) == images
    y, pullback = jax.vjp(lambda w: plain(1, pads)(x, w), w)
    np.testing.assert_allclose(products.correlate(x, w, (1, 1), pads), y, atol=1e-4)
    found = products.kernel_gradient(y, x, (3, 3), (1, 1), pads)
    np.testing.assert_allclose(found, pullback(y)[0], rtol=1e-4, atol=1e-3)


def test_explicit_form_is_used_and_only_where_asked(monkeypatch):
    x, w = example(4, 4, 3)

    def program():  # a new function each time: JAX caches traces by function
        return str(jax.make_jaxpr(lambda x, w: ours(1, "SAME")(x, w))(x, w))

    assert "custom_vjp" in program()
    monkeypatch.setattr(conv_file, "form", lambda dtype: "plain")
    assert "custom_vjp" not in program()


def test_forms_are_chosen_by_the_platform(monkeypatch):
    monkeypatch.undo()  # of the fixture: the real choice
    for dtype in (jnp.dtype("float32"), jnp.dtype("bfloat16")):
        assert conv_file.form(dtype) == cpu_form(dtype)
    for backend in ("gpu", "tpu"):
        monkeypatch.setattr(jax, "default_backend", lambda name=backend: name)
        assert conv_file.form(jnp.float32) == conv_file.form(jnp.bfloat16) == "plain"


def test_vmapped_products_are_batched_ones(monkeypatch):
    """Where vmapped convolutions are grouped ones, these are matrix products."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    x, w = example(5, 6, 3)
    pair = jnp.stack([x, x]), jnp.stack([w, w])

    def program(form):
        monkeypatch.setattr(conv_file, "form", lambda dtype: form)
        run = jax.vmap(value_and_pullback(ours(1, "SAME")))
        return str(jax.make_jaxpr(run)(*pair))

    assert "feature_group_count=2" in program("plain")
    assert "conv_general_dilated" not in program("products")
    assert "dot_general" in program("products")


def test_every_loop_conv_has_the_fast_layout():
    """What the cure rests on: one layout only, in forward and backward alike."""
    x, w = example(6, 6, 3)
    loss = lambda x, w: jnp.sum(ours(2, "SAME")(x, w) ** 2)
    hlo = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(x, w).as_text()
    found = [line for line in hlo.splitlines() if "stablehlo.convolution" in line]
    assert len(found) == 3
    assert all("[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]" in line for line in found)


def test_channels_must_agree():
    x, w = example(4, 4, 3)
    with pytest.raises(AssertionError):
        conv(x[..., :2], w, strides=(1, 1), padding="SAME")


def test_module_shapes_bias_and_bounds():
    layer = Conv(50, 3, 2, True, uniform_fan_in(18), jnp.dtype("bfloat16"))
    x = jnp.ones((1, 7, 8, 2))
    variables = layer.init(jax.random.key(0), x)
    chex.assert_tree_shape_prefix(layer.apply(variables, x), (1, 4, 4, 50))
    chex.assert_type(jax.tree.leaves(variables), jnp.float32)
    chex.assert_type(layer.apply(variables, x), jnp.bfloat16)
    for name in ("kernel", "bias"):
        value = np.asarray(variables["params"][name])
        assert 0.8 * 18**-0.5 < np.abs(value).max() <= 18**-0.5
    shifted = {"params": {**variables["params"], "bias": jnp.full(50, 3.0)}}
    silent = {"params": {**variables["params"], "bias": jnp.zeros(50)}}
    change = layer.apply(shifted, x) - layer.apply(silent, x)
    np.testing.assert_allclose(change.astype(jnp.float32), 3.0, atol=0.03)
