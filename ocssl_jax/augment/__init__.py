"""Random views of raw images, on the device.

`make_augment` joins a set of `SETS` to the data set's normalisation; `make_view` does
for classifiers, which see one view of an image. `ops` holds the image operations,
`transforms` what is random about them, `sets` the recipes.
"""

from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp

from ocssl_jax.augment import cassle, sets
from ocssl_jax.augment.transforms import Transform, chain
from ocssl_jax.core import Array, Augment, Key, Prepare

Recipe = list[Transform] | tuple[list[Transform], ...]  # of all views, or of each

SETS: dict[str, Callable[[int], Recipe]] = {  # by image_size
    "simclr": sets.simclr,
    "common": sets.common,
    "simsiam": sets.simsiam,
    "clip": sets.clip,
    "crop_flip": sets.crop_flip,
    "glyphs": sets.glyphs,
    "none": sets.none,
    "cassle_simclr": cassle.simclr,
    "cassle_twins": cassle.twins,
    "cassle_vicreg": cassle.vicreg,
}
PER = ("sample", "batch")


def normalizer(mean: Sequence[float], std: Sequence[float]) -> Prepare:
    """How images look to the network without augmentation.

    Args:
      mean: per channel, of values in [0, 1].
      std: per channel, above 0.

    Returns:
      prepare: uint8 [m h w c] -> float32 [m h w c], (x / 255 − mean) / std.

    Raises:
      ValueError: if `mean` and `std` differ in length or a deviation is not positive.
    """
    normalize = _normalize(mean, std)

    def prepare(images: Array) -> Array:
        chex.assert_shape(images, (None, None, None, len(mean)))
        return normalize(_unit_range(images))

    return prepare


def make_augment(
    name: str,
    *,
    image_size: int,
    channels: int,
    mean: Sequence[float],
    std: Sequence[float],
    views: int,
    per: str,
) -> Augment:
    """Random views of a batch, normalised; pure, to be called inside a jitted step.

    Args:
      name: one of `SETS`.
      image_size: height and width of the stored images, and of the views.
      channels: 1 or 3. On one channel saturation, hue and grayscale do nothing.
      mean: per channel, of values in [0, 1].
      std: per channel, above 0.
      views: random views of each image.
      per: 'sample' draws anew for each image and view; 'batch' draws once a view, so
        that all images of a view share box, flip and colours. The OCSSL references do
        the latter, by applying torchvision's transforms to whole batches.

    Returns:
      augment: (key, uint8 [n h w c]) -> float32 [v n h w c].

    Raises:
      ValueError: if a setting is not among those allowed.
    """
    _check(name, image_size, channels, views, per)
    normalize = _normalize(mean, std)
    if len(mean) != channels:
        raise ValueError(f"mean has {len(mean)} entries for {channels} channels")
    recipe = SETS[name](image_size)
    own = recipe if isinstance(recipe, tuple) else (recipe,)
    if len(own) not in (1, views):
        raise ValueError(f"{name!r} is for {len(own)} views of an image, not {views}")
    sample = per == "sample"
    rows = [_rows(chain(transforms), sample=sample) for transforms in own]

    def augment(key: Key, images: Array) -> Array:
        n = images.shape[0]
        chex.assert_shape(images, (n, image_size, image_size, channels))
        keys = jax.random.split(key, (views, n) if sample else views)
        pixels = _unit_range(images)
        if len(rows) == 1:
            return normalize(jax.vmap(rows[0], in_axes=(0, None))(keys, pixels))
        seen = [view(keys[v], pixels) for v, view in enumerate(rows)]
        return normalize(jnp.stack(seen))

    return augment


def make_view(
    name: str,
    *,
    image_size: int,
    channels: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> Augment:
    """One random view of each image by a key of its own, normalised.

    Args:
      name: one of `SETS` that has one recipe for all views.
      image_size: height and width of the images.
      channels: 1 or 3.
      mean: per channel, of values in [0, 1].
      std: per channel, above 0.

    Returns:
      view: (keys [n], uint8 [n h w c]) -> float32 [n h w c].

    Raises:
      ValueError: if a setting is not among those allowed.
    """
    _check(name, image_size, channels, 1, "sample")
    normalize = _normalize(mean, std)
    recipe = SETS[name](image_size)
    if isinstance(recipe, tuple):
        raise ValueError(f"{name!r} is for {len(recipe)} views of an image, not 1")
    rows = _rows(chain(recipe), sample=True)

    def view(keys: Key, images: Array) -> Array:
        chex.assert_shape(images, (len(keys), image_size, image_size, channels))
        return normalize(rows(keys, _unit_range(images)))

    return view


def _rows(transform: Transform, *, sample: bool) -> Callable[[Array, Array], Array]:
    """(keys [n], or one for all; images [n h w c]) -> one view of each [n h w c]."""

    def view(key: Key, image: Array) -> Array:
        return transform.apply(image, transform.draw(key, image.shape))

    return jax.vmap(view, in_axes=(0 if sample else None, 0))


def _unit_range(images: Array) -> Array:
    """Uint8 [...] to float32 in [0, 1]."""
    chex.assert_type(images, jnp.uint8)
    return images.astype(jnp.float32) / 255.0


def _normalize(mean: Sequence[float], std: Sequence[float]) -> Callable[[Array], Array]:
    """[... c] in [0, 1] -> (x − mean) / std per channel."""
    if len(mean) != len(std) or not all(s > 0 for s in std):
        raise ValueError(
            "mean and std must have one entry a channel, std above 0, "
            f"got mean {tuple(mean)} and std {tuple(std)}"
        )

    def normalize(x: Array) -> Array:
        shape = (1,) * (x.ndim - 1) + (len(mean),)
        centre, spread = (jnp.float32(s).reshape(shape) for s in (mean, std))
        return (x - centre) / spread

    return normalize


def _check(name: str, image_size: int, channels: int, views: int, per: str) -> None:
    """Raises ValueError on a setting that is not allowed, in one line."""
    if name not in SETS:
        raise ValueError(f"augmentation must be one of {', '.join(SETS)}, got {name!r}")
    if per not in PER:
        raise ValueError(f"per must be one of {', '.join(PER)}, got {per!r}")
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")
    if image_size < 1 or views < 1:
        raise ValueError(
            f"image_size and views must be at least 1, got {image_size} and {views}"
        )
