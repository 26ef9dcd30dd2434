"""Times the augmentation of a train step, per set and per operation.

  python -m benchmarks.augment --sizes 32,64 --images 138

Every line is over `--images` rows of a pass times `--views`. The lines `jitter: ...`
compare three ways to run four colour operations in random order; the library's is
`hue once`. `compile s` is the time to compile that line alone.
"""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks import commandline
from benchmarks.tables import Row
from benchmarks.timing import interleaved, timed
from ocssl_jax.augment import PER, make_augment, ops, transforms

OPERATIONS = (ops.brightness, ops.contrast, ops.saturation, ops.hue)
STRENGTH = dict(brightness=0.6, contrast=0.6, saturation=0.6, hue=0.2)


def switched(image, jitter):
    """One `switch` of four operations a step: under `vmap` all sixteen run."""
    values = jnp.stack(jitter[:4])
    for step in range(4):
        which = jitter.order[step]
        image = lax.switch(which, OPERATIONS, image, values[which])
    return image


def selected(image, jitter):
    """One blend and one hue a step, of which one is kept."""
    values = jnp.stack(jitter[:4])
    for step in range(4):
        which = jitter.order[step]
        gray = ops.luma(image)
        flat = jnp.where(which == ops.CONTRAST, jnp.mean(gray), 0.0)
        other = jnp.where(which == ops.SATURATION, gray, flat)
        blended = ops.blend(image, other, values[which])
        turned = ops.hue(image, jitter.hue)
        image = jnp.where(which == ops.HUE, turned, blended)
    return image


def applied(transform):
    """The part of `transform` that touches pixels, over images and their draws."""
    return jax.vmap(transform.apply)


def cases(images: int, views: int, size: int) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Name -> (function, arguments), all over images x views pictures."""
    key, n = jax.random.key(0), images * views
    shape = (size, size, 3)
    raw = jax.random.randint(key, (images, *shape), 0, 256).astype(jnp.uint8)
    pictures = jax.random.uniform(key, (n, *shape))
    found: dict[str, tuple[Any, tuple[Any, ...]]] = {}
    for name in ("none", "simclr", "common"):
        for per in PER:
            augment = make_augment(
                name,
                image_size=size,
                channels=3,
                mean=(0.5,) * 3,
                std=(0.25,) * 3,
                views=views,
                per=per,
            )
            found[f"{name} per {per}"] = augment, (key, raw)

    jitter = transforms.color_jitter(**STRENGTH)
    parts = {
        "crop": transforms.random_resized_crop(scale=(0.2, 1.0), ratio=(3 / 4, 4 / 3)),
        "flip": transforms.maybe(0.5, transforms.fixed(ops.flip)),
        "grayscale": transforms.maybe(0.2, transforms.fixed(ops.grayscale)),
        "blur": transforms.gaussian_blur(kernel=5, sigma=(0.1, 2.0)),
        "jitter: hue once": jitter,
        "jitter: select": jitter._replace(apply=selected),
        "jitter: switch": jitter._replace(apply=switched),
    }
    keys = jax.random.split(key, n)
    for name, transform in parts.items():
        drawn = jax.vmap(lambda k, t=transform: t.draw(k, shape))(keys)
        found[name] = applied(transform), (pictures, drawn)
    crop = parts["crop"]
    found["draw: box"] = jax.vmap(lambda k: crop.draw(k, shape)), (keys,)
    found["draw: jitter"] = jax.vmap(lambda k: jitter.draw(k, shape)), (keys,)
    return found


def rows(size: int, args: Any, only: str, parser: Any) -> Iterator[Row]:
    """The lines of one image size, interleaved."""
    found = cases(args.images, args.views, size)
    names = commandline.chosen(parser, only, found)
    clocks, compile_s = {}, {}
    for name in names:
        function, given = found[name]
        start = time.perf_counter()
        ready = jax.jit(function).lower(*given).compile()
        compile_s[name] = time.perf_counter() - start
        clocks[name] = timed(partial(ready, *given))
    for name, seconds in interleaved(clocks, args.repeats).items():
        more = {"compile_s": round(compile_s[name], 2)}
        yield Row(f"{size}x{size}: {name}", seconds, more=more)


def main() -> None:
    """Parse the flags, measure, print."""
    parser = commandline.parser(__doc__, cases="the lines", repeats=50)
    parser.add_argument("--images", type=commandline.positive, default=138)
    parser.add_argument("--views", type=commandline.positive, default=2)
    parser.add_argument("--sizes", default="32,64", help="sides in pixels, commas")
    args = commandline.parsed(parser)
    if args.small:
        args.images, args.sizes = 2, "8"
    sizes = map(commandline.positive, args.sizes.split(","))
    found = [row for size in sizes for row in rows(size, args, args.case, parser)]
    commandline.finish(args, jax.devices()[0].device_kind, found)


if __name__ == "__main__":
    main()
