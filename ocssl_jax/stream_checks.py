"""Which streams a data set allows, told before it is decoded as far as possible."""

from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from ocssl_jax.data import DATASETS, Benchmark, Dataset
from ocssl_jax.errors import UsageError

SHOWN = 3  # classes, domains or files named in an error


def check_domains(config: ConfigDict) -> None:
    """Refuse kinds, and probes, that a data set's domains do not allow.

    Raises:
      UsageError: saying what is allowed.
    """
    s = config.stream
    spec = DATASETS[s.dataset]
    if "domain" in (s.kind, s.kind == "iid" and s.iid_of) and not spec.domains:
        known = ", ".join(name for name, row in DATASETS.items() if row.domains)
        raise UsageError(
            f"config.stream.kind domain needs a stream.dataset that has domains, one "
            f"of {known}, got {s.dataset!r}"
        )
    if spec.streaming:
        _check_streaming(config)


def _check_streaming(config: ConfigDict) -> None:
    """A classifier must not be tested on images that it was fitted to."""
    s = config.stream
    if s.kind != "domain":
        raise UsageError(
            f"config.stream.kind must be domain for {s.dataset!r}, got {s.kind!r}"
        )
    scopes = tuple(config.probe.scopes)
    own = config.probe.names and not config.probe.dataset
    if own and scopes != ("separate",):
        raise UsageError(
            f"{s.dataset!r} tests on images that the next domain trains on: only "
            "probes fitted to one domain alone are fair, of the scope separate "
            f"(probe.scopes), or none (probe.names), got {scopes!r}"
        )


def check_labels(dataset: Dataset, field: str, *, needed: bool) -> None:
    """Refuse labels that cannot be learnt, in the words of who laid out the folders.

    Args:
      dataset: of the stream, or a downstream one.
      field: the group of the config that names it.
      needed: whether an unlabelled data set is of no use.

    Raises:
      UsageError: naming the classes, or the files.
    """
    labelled = dataset.train_label.min() >= 0
    if dataset.strays and (labelled or needed):
        raise UsageError(
            f"config.{field}: pictures of {dataset.name!r} lie outside the class "
            f"folders, which leaves them without a label: {_some(dataset.strays)}; "
            f"move them into one, or away"
        )
    absent = np.setdiff1d(dataset.test_label, dataset.train_label)
    if labelled and len(absent):
        names = [dataset.class_names[label] for label in absent]
        raise UsageError(
            f"config.{field}: {dataset.name!r} has test images and no training images "
            f"of the classes {_some(names)}"
        )


def check_experiences(config: ConfigDict, dataset: Dataset, bench: Benchmark) -> None:
    """Refuse a stream with a domain that has no image of the classes in use.

    Raises:
      UsageError: naming the domains.
    """
    if bench.kind != "domain":
        return
    order = tuple(config.stream.order) or range(len(bench.train))
    names = [dataset.domain_names[domain] for domain in order]
    empty = [name for name, i in zip(names, bench.train, strict=True) if not len(i)]
    if empty:
        raise UsageError(
            f"config.stream.classes: of the {config.stream.classes} classes in use "
            f"there are no training images in the domains {_some(empty)}"
        )


def check_classes(config: ConfigDict, dataset: Dataset, bench: Benchmark) -> None:
    """Refuse labels that a classifier has no output for.

    Raises:
      UsageError: saying which there are.
    """
    wanted, name = config.method.supervised.classes, config.stream.dataset
    method = config.method.name
    if dataset.train_label.min() < 0:
        raise UsageError(
            f"config.method.name {method!r} needs labels, and images of {name!r} "
            f"have none"
        )
    most = 1 + max(max(classes) for classes in bench.classes)
    if method == "supervised" and most > wanted:
        raise UsageError(
            f"config.method.supervised.classes must be at least {most} for {name!r}, "
            f"got {wanted}"
        )


def check_exemplars(config: ConfigDict, bench: Benchmark) -> None:
    """Refuse fewer exemplars than classes: each has the same number, which were 0.

    Raises:
      UsageError: saying how many there must be.
    """
    held, least = config.strategy.memory_size, len(set().union(*bench.classes))
    if config.strategy.name == "icarl" and held < least:
        raise UsageError(
            f"config.strategy.memory_size must be at least {least} with strategy "
            f"'icarl', an image of each class, got {held}"
        )


def _some(names: Sequence[str]) -> str:
    """The first few of many names."""
    shown = ", ".join(names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
