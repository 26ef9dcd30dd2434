"""Measures the augmentation of a train step, per set and per operation.

Every line is over `--images` rows of a pass times `--views`, and is the fastest of
`--runs` calls, taken in turns so that all lines see the same load: the figure that a
shared machine disturbs least. The lines `jitter: ...` compare three ways to run four
colour operations in random order; the library's is `hue once`.

    python benchmarks/augment.py --sizes 32,64 --images 138
"""

import argparse
import math
import time

import jax
import jax.numpy as jnp
from jax import lax

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


def cases(images, views, size):
    """Name -> (function, arguments), all over images x views pictures."""
    key, n = jax.random.key(0), images * views
    shape = (size, size, 3)
    raw = jax.random.randint(key, (images, *shape), 0, 256).astype(jnp.uint8)
    pictures = jax.random.uniform(key, (n, *shape))
    found = {}
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
            found[f"set {name}, per {per}"] = augment, (key, raw)

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
        found[f"  {name}"] = applied(transform), (pictures, drawn)
    crop = parts["crop"]
    found["  draw: box"] = jax.vmap(lambda k: crop.draw(k, shape)), (keys,)
    found["  draw: jitter"] = jax.vmap(lambda k: jitter.draw(k, shape)), (keys,)
    return found


def fastest(found, runs):
    """Name -> (least milliseconds a call, seconds to compile)."""
    ready, compile_s = {}, {}
    for name, (function, args) in found.items():
        start = time.perf_counter()
        ready[name] = jax.jit(function).lower(*args).compile()
        compile_s[name] = time.perf_counter() - start
    best = dict.fromkeys(found, math.inf)
    for _ in range(runs):
        for name, (_, args) in found.items():
            start = time.perf_counter()
            jax.block_until_ready(ready[name](*args))
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: (1e3 * best[name], compile_s[name]) for name in found}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=138)
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--sizes", default="32,64")
    parser.add_argument("--runs", type=int, default=50)
    args = parser.parse_args()
    device = jax.devices()[0]
    print(f"{args.images} images x {args.views} views on {device.device_kind}")
    for size in map(int, args.sizes.split(",")):
        print(f"\n{size}x{size:<24} {'ms, fastest':>12} {'compile s':>10}")
        table = fastest(cases(args.images, args.views, size), args.runs)
        for name, (ms, seconds) in table.items():
            print(f"{name:<27} {ms:12.2f} {seconds:10.2f}")


if __name__ == "__main__":
    main()
