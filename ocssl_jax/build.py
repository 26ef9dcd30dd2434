"""From a config to the functions and arrays of a run. No state is made here."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from ocssl_jax import data, scopes
from ocssl_jax.augment import make_augment, normalizer
from ocssl_jax.backbones import BACKBONES, make_backbone
from ocssl_jax.core import Array, Method, Prepare, Variables
from ocssl_jax.downstream import downstream
from ocssl_jax.errors import UsageError, one_of
from ocssl_jax.methods import METHODS
from ocssl_jax.optim import OPTIMIZERS, SCHEDULES, Optimizer, make_optimizer
from ocssl_jax.pairs import check_pair
from ocssl_jax.pretrained import Pretrained, pretrained
from ocssl_jax.probes import PROBES, Fit
from ocssl_jax.step import Init, Step, make_step
from ocssl_jax.strategies import STRATEGIES, Strategy
from ocssl_jax.stream_checks import check_domains, check_experiences, check_labels
from ocssl_jax.wiring import group, made, wired


class Learning(NamedTuple):
    """The pure functions of one learner."""

    method: Method
    strategy: Strategy
    prepare: Prepare
    encode: Callable[[Variables, Array], Array]  # of uint8 images, for probes
    init: Init
    step: Step


class Experiment(NamedTuple):
    """Everything of a run that its config and its data decide."""

    dataset: data.Dataset
    bench: data.Benchmark
    schedules: tuple[data.Schedule, ...]  # one a seed
    learning: Learning
    probes: dict[str, Fit]
    judged: tuple[data.Dataset, data.Benchmark]  # what probes are about

    @property
    def contents(self) -> dict[str, str]:
        """What the data sets hold, the downstream one too, in `config.json`'s fields.

        Folders are no part of a config, since data may be moved; this tells whether it
        is the same data that lie there.
        """
        contents = {"data": data.fingerprint(self.dataset)}
        if self.judged[0] is not self.dataset:
            contents["probe_data"] = data.fingerprint(self.judged[0])
        return contents


def build(config: ConfigDict, *, fresh: bool = True) -> Experiment:
    """The experiment of a resolved config.

    Args:
      config: as resolved by `settings.resolve`.
      fresh: whether learners are to start with their first weights; if not, those of
        `backbone.pretrained` are not read, and random ones have their place.

    Raises:
      UsageError: if a name or a combination in the config is not possible, or the data
        set is missing or damaged.
    """
    check_names(config)
    dataset, bench, schedules = make_stream(config)
    judged = dataset, bench
    if config.probe.names and config.probe.dataset:
        judged = downstream(config, dataset.train_image.shape[1:])
    if config.probe.names:
        scopes.check(config, judged[1])
    learning_of = partial(
        make_learning,
        shape=dataset.train_image.shape[1:],
        mean=dataset.mean,
        std=dataset.std,
        fresh=fresh,
    )
    learning = learning_of(config)
    for name in config.baselines:
        if name != "random":  # told now, not when the baseline's turn comes
            learning_of(as_baseline(config, name))
    probes = {
        name: made(
            PROBES[name],
            f"probe.{name}",
            **wired(PROBES[name], f"probe.{name}", group(config.probe, name)),
        )
        for name in config.probe.names
    }
    return Experiment(dataset, bench, schedules, learning, probes, judged)


def as_baseline(config: ConfigDict, name: str) -> ConfigDict:
    """The config of the baseline strategy `name`: everything else is the same."""
    other = config.copy_and_resolve_references()
    other.baselines = ()
    other.strategy.name = name
    return other


def make_learning(
    config: ConfigDict,
    *,
    shape: tuple[int, ...],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    fresh: bool = True,
) -> Learning:
    """The learner of a resolved config for images of `shape` (h, w, c).

    Unless it is to be `fresh`, no weights are read from files.

    Raises:
      UsageError: if a setting is not possible.
    """
    size, channels = shape[0], shape[-1]
    prepare = normalizer(mean, std)
    backbone = backbone_of(config, image_size=size)
    started = starting(config, backbone, shape=shape) if fresh else backbone
    method, strategy = make_method(config, started), make_strategy(config)
    check_pair(config, method)
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
    init, step = make_step(
        method,
        strategy,
        optimizer_of(config),
        augment=augment,
        prepare=prepare,
        passes=config.passes,
    )

    def encode(variables: Variables, images: Array) -> Array:
        features: Any = backbone.apply(variables, prepare(images), train=False)
        return features

    return Learning(method, strategy, prepare, encode, init, step)


def check_names(config: ConfigDict) -> None:
    """Every name must be in its registry; the error lists what is.

    Raises:
      UsageError: naming the field and what it may hold.
    """
    one_of("stream.dataset", config.stream.dataset, data.DATASETS)
    one_of("stream.kind", config.stream.kind, data.KINDS)
    one_of("backbone.name", config.backbone.name, BACKBONES)
    one_of("method.name", config.method.name, METHODS)
    one_of("strategy.name", config.strategy.name, STRATEGIES)
    one_of("optimizer.name", config.optimizer.name, OPTIMIZERS)
    one_of("optimizer.schedule", config.optimizer.schedule, SCHEDULES)
    for name in config.probe.names:
        one_of("probe.names", name, PROBES)
    scopes.check_names(config.probe)
    if config.probe.dataset:
        one_of("probe.dataset", config.probe.dataset, data.DATASETS)
    for name in config.baselines:
        one_of("baselines", name, ("random", *STRATEGIES))


def make_stream(
    config: ConfigDict,
) -> tuple[data.Dataset, data.Benchmark, tuple[data.Schedule, ...]]:
    """The data set, its experiences, and each seed's order of arrival.

    Raises:
      UsageError: if the data are missing or cannot be cut as asked.
    """
    s = config.stream
    check_domains(config)
    dataset = made(
        data.load,
        "stream",
        s.dataset,
        data_dir=s.data_dir,
        image_size=s.image_size,
        seed=s.seed,
        order=tuple(s.order),
    )
    own = bool(config.probe.names) and not config.probe.dataset
    check_labels(dataset, "stream", needed=own or s.kind not in data.UNLABELLED_KINDS)
    bench = made(
        data.benchmark,
        "stream",
        dataset.train_label,
        dataset.test_label,
        kind=s.kind,
        tasks=s.tasks,
        classes=s.classes,
        seed=s.seed,
        val_ratio=s.val_ratio,
        order=dataset.order or tuple(s.order),
        train_domain=dataset.train_domain,
        test_domain=dataset.test_domain,
        blur=s.blur,
    )
    check_experiences(config, dataset, bench)
    unlabelled = dataset.train_label.min() < 0
    if own and (unlabelled or not sum(map(len, bench.test))):
        raise UsageError(
            f"the stream of data set {s.dataset!r} has no labelled test images to "
            f"probe on; probe on another one (probe.dataset) or on none "
            f"(probe.names=())"
        )
    images = sum(map(len, bench.train))
    if s.batch_size > images:
        raise UsageError(
            f"config.stream.batch_size must be at most {images}, the images of the "
            f"stream, got {s.batch_size}"
        )
    schedules = tuple(
        made(
            data.schedule,
            "stream",
            bench,
            key_seed=seed,
            batch_size=s.batch_size,
            limit=s.limit,
            epochs=s.epochs,
        )
        for seed in config.seeds
    )
    return dataset, bench, schedules


def backbone_of(config: ConfigDict, *, image_size: int) -> nn.Module:
    """The config's network for images with sides of `image_size` pixels."""
    return made(
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


def starting(
    config: ConfigDict, backbone: nn.Module, *, shape: tuple[int, ...]
) -> nn.Module | Pretrained:
    """The backbone for images of `shape` (h, w, c) with the config's first weights.

    Raises:
      UsageError: if these are in a file that cannot be used.
    """
    path = config.backbone.pretrained
    return pretrained(path, backbone, shape=shape) if path else backbone


def make_method(config: ConfigDict, backbone: nn.Module | Pretrained) -> Method:
    """The config's SSL objective on `backbone`.

    Any strategy's group may have an `ssl_temperature`.
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
    )
    return made(METHODS[name], f"method.{name}", backbone, **settings)


def make_strategy(config: ConfigDict) -> Strategy:
    """The config's strategy."""
    name = config.strategy.name
    settings = wired(
        STRATEGIES[name],
        f"strategy.{name}",
        group(config.strategy, name),
        config.strategy,
        batch_size=config.stream.batch_size,
    )
    return made(STRATEGIES[name], f"strategy.{name}", **settings)


def optimizer_of(config: ConfigDict) -> Optimizer:
    """The config's optimizer under its schedule.

    Any strategy's group may have a `learning_rate_factor`.
    """
    o = config.optimizer
    factor = group(config.strategy, config.strategy.name).get("learning_rate_factor", 1)
    schedule = made(
        SCHEDULES[o.schedule],
        "optimizer",
        config.passes,
        peak=factor * o.learning_rate,
        momentum=o.momentum,
        rise=o.rise,
        divisor=o.divisor,
    )
    settings = wired(OPTIMIZERS[o.name], "optimizer", o)
    return make_optimizer(o.name, schedule=schedule, **settings)
