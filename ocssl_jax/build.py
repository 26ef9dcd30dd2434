"""From a config to the functions and arrays of a run. No state is made here."""

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from ocssl_jax import data, scopes
from ocssl_jax.backbones import BACKBONES
from ocssl_jax.clip.architecture import MEAN, STD
from ocssl_jax.downstream import downstream
from ocssl_jax.errors import UsageError, one_of
from ocssl_jax.feed import balanced, pools_of
from ocssl_jax.learning import Learning, make_learning
from ocssl_jax.methods import METHODS
from ocssl_jax.optim import OPTIMIZERS
from ocssl_jax.pixels import Pixels
from ocssl_jax.probes import OFFLINE, PROBES, Fit, Looking
from ocssl_jax.schedules import SCHEDULES
from ocssl_jax.scopes import CLASSIFIER
from ocssl_jax.strategies import STRATEGIES
from ocssl_jax.stream_checks import (
    check_classes,
    check_domains,
    check_exemplars,
    check_experiences,
    check_labels,
)
from ocssl_jax.wiring import group, made, wired

# Baselines that are the run's own first weights; the second is a classifier by words.
INITIAL = ("random", "zero_shot")


class Experiment(NamedTuple):
    """Everything of a run that its config and its data decide."""

    dataset: data.Dataset
    bench: data.Benchmark
    schedules: tuple[data.Schedule, ...]  # one a seed
    learning: Learning
    learning_of: Callable[[ConfigDict], Learning]  # of another config, on these images
    fresh: bool  # whether learners start with their first weights
    probes: dict[str, Fit | Looking]
    judged: tuple[data.Dataset, data.Benchmark]  # what probes are about
    pools: tuple[np.ndarray, ...] | None = None  # one a seed, see `feed.pools_of`

    @property
    def pixels(self) -> Pixels:
        """What the network takes."""
        _, height, width, channels = self.dataset.train_image.shape
        return Pixels((height, width, channels), self.dataset.mean, self.dataset.std)

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


def build(
    config: ConfigDict, *, fresh: bool = True, offline: bool = False
) -> Experiment:
    """The experiment of a resolved config.

    Args:
      config: as resolved by `settings.resolve`.
      fresh: whether learners are to start with their first weights; if not, those of
        `backbone.pretrained` are not read, and random ones have their place.
      offline: whether no run waits for its probes, which may take long then.

    Raises:
      UsageError: if a name or a combination in the config is not possible, or the data
        set is missing or damaged.
    """
    check_names(config, offline=offline)
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
        class_names=dataset.class_names,
        train_images=len(dataset.train_label),
    )
    learning = learning_of(config)
    if learning.head:
        check_classes(config, dataset, bench)
    check_exemplars(config, bench)
    for name in config.baselines:
        if name not in INITIAL:  # told now, not when the baseline's turn comes
            other = as_baseline(config, name)
            learning_of(other)
            check_exemplars(other, bench)
    probes = {
        name: probe_of(config, name)
        for name in config.probe.names
        if name != CLASSIFIER
    }
    pools = None
    if learning.method.pooled:
        pools = tuple(pools_of(dataset, schedule) for schedule in schedules)
    arriving = balanced(config, dataset, schedules)
    return Experiment(
        dataset=dataset,
        bench=bench,
        schedules=arriving,
        learning=learning,
        learning_of=learning_of,
        fresh=fresh,
        probes=probes,
        judged=judged,
        pools=pools,
    )


def probe_of(config: ConfigDict, name: str) -> Any:
    """The probe of that name, with the config's settings."""
    factory, what = {**PROBES, **OFFLINE}[name], f"probe.{name}"
    own = group(config.probe, name)
    return made(factory, what, **wired(factory, what, own, seed=config.probe.seed))


def as_baseline(config: ConfigDict, name: str) -> ConfigDict:
    """The config of the baseline strategy `name`: everything else is the same."""
    other = config.copy_and_resolve_references()
    other.baselines = ()
    other.strategy.name = name
    return other


def check_names(config: ConfigDict, *, offline: bool = False) -> None:
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
    scopes.check_names(config.probe, offline=offline)
    if config.probe.dataset:
        one_of("probe.dataset", config.probe.dataset, data.DATASETS)
    if config.log.wandb and not importlib.util.find_spec("wandb"):
        raise UsageError("config.log.wandb needs: pip install 'ocssl_jax[wandb]'")
    for name in config.baselines:
        one_of("baselines", name, (*INITIAL, *STRATEGIES))


def moments_of(
    name: str, *, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation that take pixels to [-1, 1], or to what CLIP saw.

    Raises:
      UsageError: if CLIP's are asked for where images are grey.
    """
    if name == "signed":
        return (0.5,) * channels, (0.5,) * channels
    if channels != len(MEAN):
        raise UsageError(
            "config.stream.pixels must be standard or signed for grey images, got "
            f"{name!r}"
        )
    return MEAN, STD


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
    if "permuted" in (s.kind, s.kind == "iid" and s.iid_of):
        dataset = data.permuted(dataset, tasks=s.tasks, seed=s.seed)
    if s.pixels != "standard":
        mean, std = moments_of(s.pixels, channels=len(dataset.mean))
        dataset = dataset._replace(mean=mean, std=std)
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
        iid_of=s.iid_of,
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
            made(
                data.remembered,
                "stream",
                bench,
                dataset.train_label,
                dataset.train_domain,
                budget=s.memory,
                seed=seed,
            ),
            key_seed=seed,
            batch_size=s.batch_size,
            limit=s.limit,
            epochs=s.epochs,
            known=s.known,
            samples=s.samples,
        )
        for seed in config.seeds
    )
    return dataset, bench, schedules
