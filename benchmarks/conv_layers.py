"""Times forward pass and both gradients of single convolutions, as a CPU may do them.

  python -m benchmarks.conv_layers

3 x 3 kernels over images x side x side x channels in; `kernel by products` has the
kernel's gradient as matrix products over blocks of images, `bfloat16` all three
(ocssl_jax/backbones/products.py). What a run uses depends on the size of the images.
"""

from collections.abc import Iterator
from functools import partial
from math import inf
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

from benchmarks import commandline
from benchmarks.tables import Row
from benchmarks.timing import Clock, interleaved, timed
from ocssl_jax.backbones import conv
from ocssl_jax.compiling import jit

# (images, side, channels in, channels out, stride): ResNet-18's, then a slim one's
LAYERS = (
    (138, 32, 64, 64, 1),
    (138, 32, 64, 128, 2),
    (138, 16, 128, 128, 1),
    (138, 8, 256, 256, 1),
    (138, 4, 512, 512, 1),
    (40, 32, 64, 64, 1),
    (20, 32, 64, 64, 1),
    (20, 32, 20, 20, 1),
    (20, 16, 40, 40, 1),
)
FORMS = {  # name -> (conv.LARGE, dtype)
    "convolutions": (inf, jnp.float32),
    "kernel by products": (0, jnp.float32),
    "bfloat16": (inf, jnp.bfloat16),
}


def clock(layer: tuple[int, ...], large: float, dtype: Any) -> Clock:
    """A clock of one form of a layer, traced and compiled already."""
    n, side, i, o, stride = layer
    x = jax.random.normal(jax.random.key(0), (n, side, side, i), dtype)
    kernel = jax.random.normal(jax.random.key(1), (3, 3, i, o), dtype)
    pads = ((1, 1), (1, 1))

    def both(x, kernel):
        see = partial(conv.conv, strides=(stride, stride), padding=pads)
        y, pullback = jax.vjp(see, x, kernel)
        return y, pullback(y)

    run = jit(both)
    with mock.patch.object(conv, "LARGE", large):
        jax.block_until_ready(run(x, kernel))
    return timed(partial(run, x, kernel))


def rows(layers: tuple[tuple[int, ...], ...], repeats: int) -> Iterator[Row]:
    """Every form of every layer, the forms interleaved."""
    for layer in layers:
        n, side, i, o, stride = layer
        clocks = {name: clock(layer, *form) for name, form in FORMS.items()}
        for name, seconds in interleaved(clocks, repeats).items():
            by = f", stride {stride}" if stride > 1 else ""
            yield Row(f"{n} x {side} x {side} x {i} -> {o}{by}: {name}", seconds)


def main() -> None:
    """Parse the flags, measure, print."""
    parser = commandline.parser(__doc__, repeats=10)
    args = commandline.parsed(parser)
    layers = ((2, 8, 3, 4, 2),) if args.small else LAYERS
    found = list(rows(layers, args.repeats))
    commandline.finish(args, jax.devices()[0].device_kind, found)


if __name__ == "__main__":
    main()
