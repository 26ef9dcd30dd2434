"""From a config to the pure functions of one learner."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from ocssl_jax.augment import make_augment, make_view, normalizer
from ocssl_jax.backbones import DENSE, make_backbone
from ocssl_jax.backbones.grown import Grown, last_block
from ocssl_jax.clip import start as clip_start
from ocssl_jax.core import (
    Array,
    Head,
    Key,
    Learner,
    Method,
    Prepare,
    TrainState,
    Variables,
)
from ocssl_jax.encoders import LENS
from ocssl_jax.encoding import Encode
from ocssl_jax.growing import growing
from ocssl_jax.handover import handed_over
from ocssl_jax.methods import METHODS
from ocssl_jax.optim import OPTIMIZERS, Optimizer, make_optimizer
from ocssl_jax.pairs import check_pair
from ocssl_jax.passing import make_passing
from ocssl_jax.pretrained import Pretrained, pretrained
from ocssl_jax.schedules import SCHEDULES
from ocssl_jax.step import Init, Step, make_step
from ocssl_jax.strategies import GROWING, RARE, STRATEGIES, Strategy
from ocssl_jax.strategies.base import Lens
from ocssl_jax.wiring import group, made, wired


class Learning(NamedTuple):
    """The pure functions of one learner."""

    method: Method
    strategy: Strategy
    prepare: Prepare
    encode: Encode  # for probes
    encode_views: Encode  # of each image seen with a key of its own, for some of them
    encoder: Callable[[TrainState], Variables]  # that is probed, with its lens
    head: Callable[[TrainState], Head] | None  # on these features; None: unsupervised
    init: Init
    step: Step
    passing: Step  # of batches that are not trained on
    vmap: bool  # whether seeds that share an accelerator go side by side


def make_learning(
    config: ConfigDict,
    *,
    shape: tuple[int, ...],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    fresh: bool = True,
    class_names: tuple[str, ...] = (),
    train_images: int = 0,
) -> Learning:
    """The learner of a resolved config for images of `shape` (h, w, c).

    Unless it is to be `fresh`, no weights are read from files. The names of the classes
    and the number of the data set's training images concern methods with words.

    Raises:
      UsageError: if a setting is not possible.
    """
    size, channels = shape[0], shape[-1]
    prepare = normalizer(mean, std)
    backbone = backbone_of(config, image_size=size)
    module = backbone.module if isinstance(backbone, Grown) else backbone
    started = starting(config, module, shape=shape) if fresh else module
    method_on = partial(
        make_method, config, class_names=class_names, train_images=train_images
    )
    method = method_on(started)
    strategy = make_strategy(config, shape=shape, train_images=train_images)
    if fresh and config.method.name == "clip" and config.method.clip.weights:
        method = clip_start.started(method, module, config.method.clip.weights)
    if fresh and config.method.pretrained:
        method = handed_over(method, config.method.pretrained, shape=shape)
    check_pair(config, method)
    if isinstance(backbone, Grown):
        method = growing(backbone, method, method_on(backbone))
    augment = made(
        make_augment,
        "augment",
        config.augment.name,
        image_size=size,
        channels=channels,
        mean=mean,
        std=std,
        views=method.views,
        per=config.augment.per,
    )
    view = made(
        make_view,
        "probe.linear_augmented",
        config.probe.linear_augmented.augment,
        image_size=size,
        channels=channels,
        mean=mean,
        std=std,
    )
    init, step = make_step(
        method,
        strategy,
        optimizer_of(config),
        augment=augment,
        prepare=prepare,
        passes=config.passes,
    )

    def encoder(state: TrainState) -> Variables:
        found = method.encoder(state.params["method"], state.model)
        if strategy.lens:
            found = found | {LENS: strategy.lens.variables(state.strategy)}
        return found

    def head(state: TrainState) -> Head:
        learner = Learner(state.params["method"], state.model, method, prepare)
        return strategy.head(state.strategy, learner)

    return Learning(
        method=method,
        strategy=strategy,
        prepare=prepare,
        encode=encoding(backbone, prepare, strategy.lens),
        encode_views=encoding(backbone, view, strategy.lens),
        encoder=encoder,
        head=head if method.head else None,
        init=init,
        step=step,
        passing=make_passing(method, strategy, prepare=prepare),
        # Vmapped, a branch is a choice between both of its results: all is computed.
        vmap=config.backbone.name in DENSE and config.strategy.name not in RARE,
    )


def encoding(
    backbone: nn.Module | Grown, prepare: Callable[..., Array], lens: Lens | None
) -> Encode:
    """Features of uint8 images by a network that is no longer trained.

    If the images are prepared with keys, features are of images and keys.
    """

    def encode(variables: Variables, images: Array, *keys: Key) -> Array:
        if lens:
            images = lens.look(variables[LENS], images)
        features: Any = backbone.apply(variables, prepare(*keys, images), train=False)
        return features

    return encode


def backbone_of(config: ConfigDict, *, image_size: int) -> nn.Module | Grown:
    """The config's network for images with sides of `image_size` pixels."""
    module: nn.Module = made(
        make_backbone,
        "backbone",
        config.backbone.name,
        image_size=image_size,
        dtype=jnp.dtype(config.precision),
        width=config.backbone.width,
        depth=config.backbone.depth,
        stem=config.backbone.stem,
        pool=config.backbone.pool,
    )
    if config.strategy.name not in GROWING:
        return module
    return Grown(module, config.stream.tasks, made(last_block, "backbone", module))


def starting(
    config: ConfigDict, backbone: nn.Module, *, shape: tuple[int, ...]
) -> nn.Module | Pretrained:
    """The backbone for images of `shape` (h, w, c) with the config's first weights.

    Raises:
      UsageError: if these are in a file that cannot be used.
    """
    path = config.backbone.pretrained
    return pretrained(path, backbone, shape=shape) if path else backbone


def make_method(
    config: ConfigDict, backbone: nn.Module | Pretrained | Grown, **dataset: Any
) -> Method:
    """The config's objective on `backbone`.

    Any strategy's group may have an `ssl_temperature`. What a method may ask of the
    data set comes by keywords.
    """
    name = config.method.name
    own = group(config.method, name)
    asked = group(config.strategy, config.strategy.name).get("ssl_temperature", 0)
    if asked and "temperature" in own:
        own = {**own, "temperature": asked}
    settings = wired(
        METHODS[name],
        f"method.{name}",
        own,
        config.method,
        dtype=jnp.dtype(config.precision),
        balanced=config.stream.balanced,
        **dataset,
    )
    return made(METHODS[name], f"method.{name}", backbone, **settings)


def make_strategy(
    config: ConfigDict, *, shape: tuple[int, ...], train_images: int = 0
) -> Strategy:
    """The config's strategy for images of `shape` (h, w, c).

    Their number in the data set concerns strategies that know them apart.
    """
    name = config.strategy.name
    settings = wired(
        STRATEGIES[name],
        f"strategy.{name}",
        group(config.strategy, name),
        config.strategy,
        batch_size=config.stream.batch_size,
        learning_rate=config.optimizer.learning_rate,
        tasks=config.stream.tasks,
        epochs=config.stream.epochs,
        image_shape=shape,
        train_images=train_images,
    )
    return made(STRATEGIES[name], f"strategy.{name}", **settings)


def optimizer_of(config: ConfigDict) -> Optimizer:
    """The config's optimizer under its schedule.

    Any strategy's group may have a `learning_rate_factor`.
    """
    o = config.optimizer
    factor = group(config.strategy, config.strategy.name).get("learning_rate_factor", 1)
    factory, peak = SCHEDULES[o.schedule], factor * o.learning_rate
    settings = wired(factory, "optimizer", o, peak=peak)
    schedule = made(factory, "optimizer", config.passes, **settings)
    return make_optimizer(
        o.name,
        schedule=schedule,
        momentum_reset=o.momentum_reset,
        **wired(OPTIMIZERS[o.name], "optimizer", o),
    )
