"""What a learner in one's own loop does with images of one size, jitted."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ocssl_jax import states
from ocssl_jax.build import moments_of
from ocssl_jax.compiling import jit, once
from ocssl_jax.core import Array, Key, TrainState
from ocssl_jax.data import DATASETS
from ocssl_jax.errors import UsageError
from ocssl_jax.learning import Learning, make_learning
from ocssl_jax.pixels import Pixels, Shape, stream_of
from ocssl_jax.step import Metrics


class Functions(NamedTuple):
    """Jitted functions, and what they are made of."""

    init: Callable[..., TrainState]  # (key, pixels [b h w c])
    # (state, pixels [b h w c], labels [b] or None, how many are real, boundary)
    step: Callable[..., tuple[TrainState, Metrics]]
    encode: Callable[..., Array]  # (state, pixels [m h w c]) -> [m f]
    like: TrainState  # what `init` returns, shapes alone
    classes: int  # of a supervised method; 0: it takes no labels
    learning: Learning
    pixels: Pixels


def make_functions(
    config: ConfigDict, shape: Shape, others: Mapping[Shape, TrainState]
) -> Functions:
    """Those of a resolved config for images of `shape`.

    A state's size is checked while a function is traced, not in each call: arrays of
    other shapes are traced anew.

    Args:
      config: as `settings.resolve` gives it.
      shape: of one image.
      others: what states for images of other shapes are like, as far as known; looked
        at when a size is refused.

    Raises:
      UsageError: if such images do not fit the config; by `step` and `encode`, if they
        do not fit the state.
    """
    spec = DATASETS[config.stream.dataset]
    if len(spec.mean) != shape[2]:
        raise UsageError(
            f"images have {shape[2]} channels; pixels are normalised as those of "
            f"config.stream.dataset={config.stream.dataset!r}, which have "
            f"{len(spec.mean)}"
        )
    if shape[0] != shape[1]:
        raise UsageError(
            f"images must be square, got {states.size(shape)}; crop or resize them, as "
            f"examples/camera.py does"
        )
    mean, std = spec.mean, spec.std
    if config.stream.pixels != "standard":
        mean, std = moments_of(config.stream.pixels, channels=shape[2])
    config = config.copy_and_resolve_references()
    config.stream.epochs = 1  # images come when they are handed over
    learning = make_learning(config, shape=shape, mean=mean, std=std)
    supervised = learning.method.head is not None
    classes = config.method.supervised.classes if supervised else 0

    def first(key: Key, pixels: Array) -> TrainState:
        label = jnp.zeros(len(pixels), jnp.int32) if classes else None
        return learning.init(key, stream_of(pixels, label, 1, True, jnp.int32(0)))

    def step(
        state: TrainState,
        pixels: Array,
        label: Array | None,
        real: Array,
        boundary: Array,
    ) -> tuple[TrainState, Metrics]:
        states.check(state, shape, {shape: like, **others})
        stream = stream_of(pixels, label, real, boundary, state.step)
        return learning.step(state, stream)

    def encode(state: TrainState, pixels: Array) -> Array:
        states.check(state, shape, {shape: like, **others}, learning.encoder)
        return learning.encode(learning.encoder(state), pixels)

    init = once(first)
    key = jax.eval_shape(lambda: jax.random.key(0))
    batch = jax.ShapeDtypeStruct((config.stream.batch_size, *shape), jnp.uint8)
    like = init.eval_shape(key, batch)  # traced for `init` by the way
    return Functions(
        init,
        jit(step, donate_argnums=0),
        jit(encode),
        like,
        classes,
        learning,
        Pixels(shape, mean, std),
    )
