"""Augmentation against a slow oracle, and the properties of its draws.

Tolerances: single operations agree with the float64 oracle within 2e-6 (a few units in
the last place of float32 values up to 1), crops within 1e-5 (Pillow's float32 sums),
whole pipelines within 2e-5. Frequencies are checked within 4.5 standard deviations, at
fixed keys.
"""

import functools
import itertools
import random

import augment_oracle as oracle
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ocssl_jax.augment import (
    PER,
    SETS,
    make_augment,
    make_view,
    normalizer,
    ops,
    transforms,
)

MEAN, STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
RATIO = (3 / 4, 4 / 3)
NEUTRAL = dict(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0)


@pytest.fixture(autouse=True)
def strict():
    """No silent change of type or rank anywhere in the library's augmentation."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def picture(seed, h=9, w=7, c=3):
    """[h w c] float32 with plain colours, gray pixels and two-way ties in a corner."""
    image = np.random.default_rng(seed).random((h, w, c), dtype=np.float32)
    if c == 3:
        corners = np.array(list(itertools.product((0.0, 0.5, 1.0), repeat=3)))
        image.reshape(-1, 3)[: len(corners)] = corners
    return image


def raw(seed, n, size, c=3):
    values = np.random.default_rng(seed).integers(0, 256, (n, size, size, c), np.uint8)
    return jnp.asarray(values)


@functools.cache
def op(name):
    """An operation, compiled once for each shape in this file."""
    return jax.jit(getattr(ops, name))


def build(name, *, image_size=8, channels=3, views=2, per="sample"):
    """A compiled augmentation, shared by the tests that ask for the same one."""
    return compiled(name, image_size, channels, views, per)


@functools.cache
def compiled(name, image_size, channels, views, per):
    augment = make_augment(
        name,
        image_size=image_size,
        channels=channels,
        mean=MEAN[:channels],
        std=STD[:channels],
        views=views,
        per=per,
    )
    return jax.jit(augment)


def jitter(order=(0, 1, 2, 3), **values):
    settings = {k: jnp.float32(v) for k, v in (NEUTRAL | values).items()}
    return ops.Jitter(**settings, order=jnp.asarray(order, jnp.int32))


crop = jax.jit(ops.resized_crop, static_argnames="size")


def drawn_with(transform, keys, shape):
    """Parameters drawn with each of `keys` [...], stacked, as NumPy arrays."""
    draw = jax.jit(jax.vmap(lambda key: transform.draw(key, shape)))
    drawn = draw(keys.reshape(-1))
    return jax.tree.map(
        lambda x: np.asarray(x).reshape(*keys.shape, *x.shape[1:]), drawn
    )


def draws(transform, n, shape=(32, 32, 3), seed=0):
    """Parameters of `n` draws."""
    return drawn_with(transform, jax.random.split(jax.random.key(seed), n), shape)


def within(count, n, p, sigmas=4.5):
    return abs(count - n * p) <= sigmas * np.sqrt(n * p * (1 - p))


# Operations, parameters given


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ((0, 0, 9, 7), (9, 7)),  # everything
        ((2, 1, 5, 4), (9, 7)),  # larger
        ((1, 3, 8, 1), (9, 7)),  # one column
        ((8, 6, 1, 1), (9, 7)),  # one pixel
        ((0, 0, 9, 7), (4, 3)),  # smaller: antialias
        ((1, 0, 8, 7), (3, 11)),  # smaller in one direction, larger in the other
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_resized_crop_is_pillows_resize_of_the_cut(box, size, channels):
    image = picture(0, c=channels)
    got = crop(jnp.asarray(image), ops.Box(*map(jnp.int32, box)), size=size)
    want = oracle.resized_crop(image, *box, size=size)
    assert got.shape == (*size, channels)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_full_box_of_the_same_size_is_the_identity_bit_for_bit():
    image = jnp.asarray(picture(1))
    box = ops.Box(*map(jnp.int32, (0, 0, 9, 7)))
    np.testing.assert_array_equal(crop(image, box, size=(9, 7)), image)


def test_pixels_outside_the_box_never_leak_in():
    image, box = picture(2), ops.Box(*map(jnp.int32, (2, 1, 5, 4)))
    outside = np.full_like(image, 1e6)
    outside[2:7, 1:5] = image[2:7, 1:5]
    got = crop(jnp.asarray(outside), box, size=(9, 7))
    want = crop(jnp.asarray(image), box, size=(9, 7))
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.6, 3.0])
def test_blends(name, factor, channels):
    image = picture(3, c=channels)
    got = op(name)(jnp.asarray(image), jnp.float32(factor))
    want = getattr(oracle, name)(image.astype(np.float64), factor)
    np.testing.assert_allclose(got, want, atol=2e-6)
    if factor == 1.0:
        np.testing.assert_array_equal(got, image)


@pytest.mark.parametrize("shift", [-0.5, -0.2, 0.0, 1 / 3, 0.1, 0.5])
def test_hue(shift):
    image = picture(4)
    got = op("hue")(jnp.asarray(image), jnp.float32(shift))
    want = oracle.hue(image.astype(np.float64), shift)
    np.testing.assert_allclose(got, want, atol=2e-6)
    if shift == 0.0:
        np.testing.assert_allclose(got, image, atol=5e-7)


def test_a_third_of_the_wheel_turns_red_to_green_to_blue():
    red = jnp.asarray([[[1.0, 0.0, 0.0]]], jnp.float32)
    green = op("hue")(red, jnp.float32(1 / 3))
    np.testing.assert_allclose(green, [[[0, 1, 0]]], atol=1e-6)
    np.testing.assert_allclose(
        op("hue")(green, jnp.float32(1 / 3)), [[[0, 0, 1]]], atol=1e-6
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_flip_and_grayscale(channels):
    image = picture(5, c=channels)
    x = jnp.asarray(image)
    np.testing.assert_array_equal(op("flip")(x), image[:, ::-1])
    np.testing.assert_allclose(op("grayscale")(x), oracle.grayscale(image), atol=2e-6)


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_gaussian_blur(sigma):
    image = picture(6)
    blur = jax.jit(ops.gaussian_blur, static_argnames="kernel")
    got = blur(jnp.asarray(image), jnp.float32(sigma), kernel=5)
    want = oracle.gaussian_blur(image.astype(np.float64), sigma, 5)
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_color_jitter_in_every_order():
    image = picture(7)
    orders = list(itertools.permutations(range(4)))
    values = dict(brightness=1.5, contrast=0.5, saturation=1.4, hue=-0.17)
    batch = jax.tree.map(
        lambda *x: jnp.stack(x), *[jitter(o, **values) for o in orders]
    )
    got = jax.jit(jax.vmap(ops.color_jitter, in_axes=(None, 0)))(
        jnp.asarray(image), batch
    )
    wanted = [
        oracle.color_jitter(image.astype(np.float64), list(values.values()), order)
        for order in orders
    ]
    np.testing.assert_allclose(got, np.stack(wanted), atol=1e-5)
    # The case can tell orders apart: hue commutes with brightness alone.
    assert len({np.round(w, 4).tobytes() for w in wanted}) >= 12


def test_a_neutral_jitter_is_the_identity():
    image = picture(8)
    got = op("color_jitter")(jnp.asarray(image), jitter((2, 3, 1, 0)))
    np.testing.assert_allclose(got, image, atol=5e-7)


def test_on_one_channel_only_brightness_and_contrast_act():
    image = picture(9, c=1)
    x = jnp.asarray(image)
    np.testing.assert_array_equal(op("hue")(x, jnp.float32(0.3)), image)
    np.testing.assert_array_equal(op("saturation")(x, jnp.float32(0.3)), image)
    np.testing.assert_array_equal(op("grayscale")(x), image)
    same = op("color_jitter")(x, jitter(saturation=0.2, hue=0.4))
    np.testing.assert_array_equal(same, image)
    got = op("color_jitter")(x, jitter((1, 0, 2, 3), brightness=0.6, contrast=1.8))
    want = oracle.color_jitter(image.astype(np.float64), (0.6, 1.8, 1, 0), (1, 0, 2, 3))
    np.testing.assert_allclose(got, want, atol=2e-6)


# Whole pipelines


def plain(drawn):
    """A set's draw for one image as the Python numbers of the oracle."""
    box, flip, (jittered, values), gray, *blur = jax.tree.map(
        lambda x: x.tolist(), drawn
    )
    jitter = (jittered, values[:4], values[4])
    return (box, flip[0], jitter, gray[0], *blur)


@pytest.mark.parametrize(
    ("name", "size", "channels", "per"),
    [
        ("simclr", 8, 3, "sample"),
        ("simclr", 8, 3, "batch"),
        ("simclr", 65, 3, "sample"),  # blurred, and a wider range of crops
        ("common", 8, 3, "sample"),
        ("simsiam", 8, 3, "sample"),
        ("common", 8, 1, "sample"),
    ],
)
def test_views_equal_the_oracles(name, size, channels, per):
    """Same drawn parameters, same views; `batch` shares a view's draw among images."""
    n = 2 if size > 64 else 6
    key, images = jax.random.key(3), raw(0, n, size, channels)
    got = np.asarray(
        build(name, image_size=size, channels=channels, per=per)(key, images)
    )
    assert got.shape == (2, n, size, size, channels)
    keys = jax.random.split(key, (2, n) if per == "sample" else (2, 1))
    keys = jnp.broadcast_to(keys, (2, n))
    drawn = drawn_with(transforms.chain(SETS[name](size)), keys, images.shape[1:])
    blurred = name == "simclr" and size > 64
    mean, std = np.array(MEAN[:channels]), np.array(STD[:channels])
    for at in np.ndindex(2, n):
        own = plain(jax.tree.map(lambda x, at=at: x[at], drawn))
        want = oracle.views_of(np.asarray(images[at[1]]), own, blurred)
        np.testing.assert_allclose(
            got[at] * std + mean, want, atol=2e-5, err_msg=str(own)
        )


def one_view(name, channels=3, size=8):
    mean, std = MEAN[:channels], STD[:channels]
    return make_view(name, image_size=size, channels=channels, mean=mean, std=std)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_classifiers_view_is_the_oracles_crop_mirrored_or_not(channels):
    """Each image by its own key, whichever others there are."""
    images, keys = raw(1, 6, 8, channels), jax.random.split(jax.random.key(5), 6)
    got = np.asarray(jax.jit(one_view("crop_flip", channels))(keys, images))
    drawn = drawn_with(transforms.chain(SETS["crop_flip"](8)), keys, images.shape[1:])
    mean, std = np.array(MEAN[:channels]), np.array(STD[:channels])
    for i in range(6):
        box, (flipped, _) = jax.tree.map(lambda x, i=i: x[i].tolist(), drawn)
        want = oracle.resized_crop(np.asarray(images[i]) / 255.0, *box, size=(8, 8))
        want = want[:, ::-1] if flipped else want
        np.testing.assert_allclose(got[i] * std + mean, want, atol=2e-5)


@pytest.mark.parametrize("size", [32, 65])
def test_a_classifiers_view_draws_what_cassle_draws(size):
    """RandomResizedCrop of 0.08 to 1, mirrored with 0.5, at every size; no colours."""
    n = 4000
    drawn = draws(transforms.chain(SETS["crop_flip"](size)), n, (size, size, 3))
    box, (flip, _) = drawn
    share, shape = box.height * box.width / size**2, box.width / box.height
    assert 0.06 < share.min() < 0.1 and 0.98 < share.max() <= 1
    assert 0.65 < shape.min() < 0.8 and 1.25 < shape.max() < 1.5
    assert within(flip.sum(), n, 0.5)


def test_one_view_has_one_recipe():
    with pytest.raises(ValueError, match=r"'cassle_twins' is for 2 views .*, not 1"):
        one_view("cassle_twins")
    with pytest.raises(ValueError, match="crop_flip, glyphs, none"):
        one_view("mirror")


@pytest.mark.parametrize(
    ("name", "size", "smallest", "strength", "blurs"),
    [
        ("simclr", 64, 0.2, (0.6, 0.6, 0.6, 0.2), False),
        ("simclr", 65, 0.08, (0.6, 0.6, 0.6, 0.2), True),
        ("common", 64, 0.2, (0.4, 0.4, 0.2, 0.1), False),
        ("common", 65, 0.2, (0.4, 0.4, 0.2, 0.1), False),
        ("simsiam", 65, 0.2, (0.4, 0.4, 0.4, 0.1), False),
    ],
)
def test_sets_draw_what_the_references_draw(name, size, smallest, strength, blurs):
    """Bounds, uniform laws and coin frequencies of each set (suite, section 6.2)."""
    n = 4000
    drawn = draws(transforms.chain(SETS[name](size)), n, (size, size, 3))
    box, (flip, _), (jittered, values), (gray, _), *blur = drawn
    share = box.height * box.width / size**2
    assert smallest - 0.02 < share.min() < smallest + 0.02
    assert within(flip.sum(), n, 0.5)
    assert within(jittered.sum(), n, 0.8)
    assert within(gray.sum(), n, 0.2)
    assert within((flip & jittered & gray).sum(), n, 0.5 * 0.8 * 0.2)  # independent
    for value, x, centre in zip(values[:4], strength, (1, 1, 1, 0), strict=True):
        law = stats.uniform(centre - x, 2 * x)
        assert stats.kstest(value, law.cdf).pvalue > 1e-4
        assert np.all((value >= centre - x) & (value <= centre + x))
    assert len(blur) == blurs
    for coin, sigma in blur:
        assert within(coin.sum(), n, 0.2)
        assert stats.kstest(sigma, stats.uniform(0.1, 1.9).cdf).pvalue > 1e-4


def test_every_order_of_the_jitter_is_equally_likely():
    transform = transforms.color_jitter(brightness=2, contrast=0.1, saturation=0, hue=0)
    drawn = draws(transform, 6000)
    orders, counts = np.unique(drawn.order, axis=0, return_counts=True)
    assert sorted(map(tuple, orders)) == list(itertools.permutations(range(4)))
    assert stats.chisquare(counts).pvalue > 1e-4
    assert drawn.brightness.min() >= 0.0  # max(0, 1 - x)
    assert drawn.brightness.max() > 2.9


# Boxes


def test_boxes_follow_torchvisions_law():
    """Sizes and corners against draws of the oracle, and bounds on share and ratio."""
    n, h, w, scale = 20000, 12, 10, (0.2, 1.0)
    boxes = transforms.random_resized_crop(scale=scale, ratio=RATIO)
    box = np.stack(draws(boxes, n, (h, w, 3)), axis=1)
    dice = random.Random(0)
    want = np.array([oracle.box(dice, h, w, scale, RATIO) for _ in range(n)])
    for columns in ([2, 3], [0, 2], [1, 3]):  # sizes, rows, columns
        pairs = np.concatenate([box[:, columns], want[:, columns]])
        _, code = np.unique(pairs, axis=0, return_inverse=True)
        table = np.stack(
            [np.bincount(c, minlength=code.max() + 1) for c in (code[:n], code[n:])]
        )
        table = table[:, table.sum(0) >= 20]
        assert table.shape[1] > 20
        assert stats.chi2_contingency(table).pvalue > 1e-4
    top, left, height, width = box.T
    assert np.all((top >= 0) & (top + height <= h) & (left >= 0) & (left + width <= w))
    # A side is rounded by at most half a pixel.
    assert np.all((height + 0.5) * (width + 0.5) >= scale[0] * h * w)
    assert np.all((width + 0.5) / (height - 0.5) >= RATIO[0])
    assert np.all((width - 0.5) / (height + 0.5) <= RATIO[1])


def test_corners_are_uniform():
    boxes = transforms.random_resized_crop(scale=(0.25, 0.25), ratio=(1.0, 1.0))
    box = draws(boxes, 5000, (12, 12, 3))
    assert set(box.height.tolist()) == set(box.width.tolist()) == {6}
    cells = np.bincount(box.top * 7 + box.left, minlength=49)
    assert len(cells) == 49
    assert stats.chisquare(cells).pvalue > 1e-4


@pytest.mark.parametrize(
    ("shape", "scale", "ratio", "want"),
    [
        ((8, 32, 3), (1.0, 1.0), RATIO, (0, 10, 8, 11)),  # too wide
        ((32, 8, 3), (1.0, 1.0), RATIO, (10, 0, 11, 8)),  # too tall
        ((10, 10, 3), (1.5, 1.5), RATIO, (0, 0, 10, 10)),  # the whole image
    ],
)
def test_if_no_box_fits_the_crop_is_central(shape, scale, ratio, want):
    boxes = transforms.random_resized_crop(scale=scale, ratio=ratio)
    for box in np.stack(draws(boxes, 20, shape), axis=1):
        assert tuple(box) == want


def test_a_box_that_fits_is_taken_on_a_later_try():
    """Seven tries in eight are too large here; giving up early would show."""
    boxes = transforms.random_resized_crop(scale=(0.5, 4.5), ratio=(1.0, 1.0))
    box = draws(boxes, 4000, (16, 16, 3))
    whole = (box.height == 16) & (box.width == 16)
    fits = (16.5**2 / 16**2 - 0.5) / 4.0  # rounding lets 16.5 pixels in
    full = fits - (15.5**2 / 16**2 - 0.5) / 4.0
    miss = (1 - fits) ** 10
    assert within(whole.sum(), 4000, miss + (1 - miss) * full / fits)


# Granularity, keys, compilation


def test_granularity():
    """Equal images: one draw a view makes equal rows, one draw a row does not."""
    images = jnp.tile(raw(1, 1, 8), (6, 1, 1, 1))
    key = jax.random.key(0)
    shared = np.asarray(build("simclr", per="batch")(key, images))
    own = np.asarray(build("simclr", per="sample")(key, images))
    for view in range(2):
        assert all(np.array_equal(shared[view, 0], row) for row in shared[view])
        assert len({row.tobytes() for row in own[view]}) == 6
    assert not np.array_equal(shared[0], shared[1])
    assert not np.array_equal(own[0], own[1])


def test_a_row_does_not_depend_on_its_neighbours():
    images = raw(2, 6, 8)
    changed = images.at[1:].set(255 - images[1:])
    for per in PER:
        augment = build("simclr", per=per)
        a, b = (augment(jax.random.key(4), x) for x in (images, changed))
        np.testing.assert_array_equal(a[:, 0], b[:, 0])
        assert not np.array_equal(a[:, 1], b[:, 1])


@pytest.mark.parametrize("per", PER)
def test_same_key_same_views_other_key_other_views(per):
    augment, images = build("simclr", per=per), raw(3, 6, 8)
    first = augment(jax.random.key(0), images)
    assert first.shape == (2, 6, 8, 8, 3)
    np.testing.assert_array_equal(first, augment(jax.random.key(0), images))
    assert not np.allclose(first, augment(jax.random.key(1), images))


def test_jit_and_vmap_over_keys_equal_a_loop():
    augment, images = build("simclr"), raw(4, 6, 8)
    keys = jax.random.split(jax.random.key(2), 3)
    together = jax.jit(jax.vmap(augment, in_axes=(0, None)))(keys, images)
    for key, got in zip(keys, together, strict=True):
        np.testing.assert_allclose(got, augment(key, images), atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_views_of_black_and_white_are_float32_and_stay_in_range(channels):
    augment = build("common", channels=channels)
    extremes = raw(5, 6, 8, channels) // 128 * 255
    keys = jax.random.split(jax.random.key(0), 30)
    views = jnp.stack([augment(key, extremes) for key in keys])
    assert views.dtype == jnp.float32
    pixels = np.asarray(views) * np.array(STD[:channels]) + np.array(MEAN[:channels])
    assert pixels.min() >= -1e-6
    assert pixels.max() <= 1 + 1e-6


def test_none_repeats_the_prepared_images():
    images = raw(6, 6, 8)
    for per in PER:
        views = build("none", per=per)(jax.random.key(0), images)
        want = normalizer(MEAN, STD)(images)
        np.testing.assert_array_equal(views[0], views[1])
        np.testing.assert_allclose(views[0], want, atol=1e-6)


def test_normalizer_is_the_base_transform():
    images = raw(7, 4, 8)
    got = jax.jit(normalizer(MEAN, STD))(images)
    want = (np.asarray(images) / 255.0 - np.array(MEAN)) / np.array(STD)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, atol=1e-5)


# At the door


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "mirror"}, "simclr, common, simsiam, clip, crop_flip, glyphs, none"),
        ({"per": "image"}, "sample, batch"),
        ({"channels": 4}, "1 or 3"),
        ({"channels": 1}, "3 entries for 1 channel"),
        ({"views": 0}, "at least 1"),
        ({"image_size": 0}, "at least 1"),
        ({"std": (1.0, 0.0, 1.0)}, "above 0"),
        ({"std": (1.0, 1.0)}, "one entry a channel"),
    ],
)
def test_bad_settings_are_refused_in_one_line(change, says):
    given = dict(
        name="simclr",
        image_size=8,
        channels=3,
        mean=MEAN,
        std=STD,
        views=2,
        per="batch",
    )
    with pytest.raises(ValueError, match=says) as error:
        make_augment(**(given | change))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "images",
    [
        jnp.zeros((2, 8, 8, 1), jnp.uint8),
        jnp.zeros((2, 9, 8, 3), jnp.uint8),
        jnp.zeros((2, 8, 8, 3), jnp.float32),
    ],
)
def test_images_of_another_shape_or_type_are_refused(images):
    with pytest.raises(AssertionError):
        build("simclr")(jax.random.key(0), images)
