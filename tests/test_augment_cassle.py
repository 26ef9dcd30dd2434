"""CaSSLe's sets: cubic crops and solarisation as Pillow's, views that differ."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps

from ocssl_jax.augment import SETS, make_augment, ops, transforms

# The spec's table: smallest crop, strengths of colour, blur and solarisation by view.
STRONG, MILD = (0.8, 0.8, 0.8, 0.2), (0.4, 0.4, 0.2, 0.1)
TABLE = {
    "cassle_simclr": [(0.08, STRONG, 0.5, 0.0)] * 2,
    "cassle_twins": [(0.08, MILD, 1.0, 0.0), (0.08, MILD, 0.1, 0.2)],
    "cassle_vicreg": [(0.2, MILD, 0.5, 0.1)] * 2,
}
CROP = jax.jit(ops.resized_crop, static_argnames=("size", "kernel"))


def pixels(seed=0, side=9):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


@pytest.mark.parametrize(
    ("box", "size"),
    [((0, 0, 9, 9), (9, 9)), ((2, 1, 5, 4), (9, 9)), ((0, 0, 9, 9), (4, 3))],
)
def test_the_cubic_crop_is_pillows(box, size):
    image = (pixels() / 255).astype(np.float32)
    top, left, h, w = box
    got = CROP(
        jnp.asarray(image), ops.Box(*map(jnp.int32, box)), size=size, kernel=ops.cubic
    )
    planes = [
        Image.fromarray(np.ascontiguousarray(image[top : top + h, left : left + w, c]))
        for c in range(3)
    ]
    size = size[1], size[0]
    want = np.stack([p.resize(size, Image.Resampling.BICUBIC) for p in planes], -1)
    np.testing.assert_allclose(got, np.clip(want, 0, 1), atol=1e-5)


def test_solarisation_is_pillows_at_128():
    image = pixels(1)
    image[0, 0] = (127, 128, 129)
    want = np.asarray(ImageOps.solarize(Image.fromarray(image), threshold=128))
    got = ops.solarize(jnp.asarray(image, jnp.float32) / 255.0)
    np.testing.assert_array_equal(np.round(np.asarray(got) * 255), want)


def recipes(name, size):
    found = SETS[name](size)
    return found if isinstance(found, tuple) else (found, found)


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("size", [32, 224])
def test_sets_draw_what_cassle_draws(name, size):
    n = 2000
    near = lambda coin, p: abs(coin.mean() - p) <= 4.5 * np.sqrt(p * (1 - p) / n)
    keys = jax.random.split(jax.random.key(0), n)
    for recipe, row in zip(recipes(name, size), TABLE[name], strict=True):
        smallest, strength, blur, solar = row
        draw = transforms.chain(recipe).draw
        drawn = jax.jit(jax.vmap(lambda key, d=draw: d(key, (size, size, 3))))(keys)
        box, (jittered, factors), (gray, _), *rest, (flip, _) = drawn
        share = box.height * box.width / size**2
        assert abs(share.min() - smallest) < 0.02
        assert near(jittered, 0.8) and near(gray, 0.2) and near(flip, 0.5)
        for value, x, centre in zip(factors[:4], strength, (1, 1, 1, 0), strict=True):
            assert centre + 0.98 * x < value.max() <= centre + x
        if size > 64:
            coin, sigma = rest.pop(0)
            assert near(coin, blur) and 0.1 <= sigma.min() < 0.2 < 1.9 < sigma.max()
        assert len(rest) == (solar > 0)
        assert not rest or near(rest[0][0], solar)


def built(name, views=2):
    return make_augment(
        name,
        image_size=9,
        channels=3,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        views=views,
        per="sample",
    )


def test_only_the_second_view_of_the_twins_is_solarised():
    """White stays white in every transform but solarisation, which makes it black."""
    white = jnp.full((200, 9, 9, 3), 255, jnp.uint8)
    dark = built("cassle_twins")(jax.random.key(0), white).max(axis=(2, 3, 4)) < 0.3
    assert not dark[0].any()
    assert 0.1 < dark[1].mean() < 0.3


@pytest.mark.slow
def test_a_set_for_two_views_makes_two():
    with pytest.raises(ValueError, match=r"'cassle_twins' is for 2 views .* not 1"):
        built("cassle_twins", views=1)
    assert built("cassle_vicreg", views=1)(
        jax.random.key(0), jnp.zeros((2, 9, 9, 3), jnp.uint8)
    ).shape == (1, 2, 9, 9, 3)
