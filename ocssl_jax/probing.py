"""What the frozen encoder is worth after an experience.

Features are computed once and shared by all probes, scopes and shares of the labels.
The labels that a probe may use, and its key, depend on seeds of their own: probing
never changes training.

Each fitted classifier is asked about the test images, for results, and about the
validation images, for choosing between runs. The linear probe has chosen its epoch on
the latter, as the reference's does: too high a number to be reported.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from ocssl_jax.accuracy import Record, task_accuracy, to_records
from ocssl_jax.build import Experiment
from ocssl_jax.core import Head, Key, Variables
from ocssl_jax.encoding import Encoder
from ocssl_jax.errors import TrainingError
from ocssl_jax.probes import Fit, Looking, Predict, subset
from ocssl_jax.rates import Rate, of_sweep
from ocssl_jax.rows import Rows, Split
from ocssl_jax.scopes import CLASSIFIER, Variant
from ocssl_jax.views import Views

PROBE_KEY = 0x70726F62  # folded into a seed's key: apart from training's


class Probing(NamedTuple):
    """The images that probes train, tune and are tested on."""

    train: Split
    val: Split
    test: Split
    tasks: int
    shares: dict[float, np.ndarray]  # ratio -> positions in `train` with a label

    def upto(self, after: int) -> "Probing":
        """Without the validation and test images of tasks that came after `after`."""
        met = range(after + 1)
        return self._replace(val=self.val.part(met), test=self.test.part(met))

    def met(self, after: int) -> np.ndarray:
        """Classes of the test images of the tasks up to `after`."""
        return np.unique(self.test.part(range(after + 1)).label)

    @property
    def sizes(self) -> list[int]:
        """Test samples of each task."""
        return np.bincount(self.test.task, minlength=self.tasks).tolist()

    @property
    def val_sizes(self) -> list[int]:
        """Validation samples of each task."""
        return np.bincount(self.val.task, minlength=self.tasks).tolist()


class Accuracies(NamedTuple):
    """What the probes got right; no `val` where no validation images are held out."""

    test: list[Record]
    val: list[Record]
    rates: list[Rate]  # of probes that have chosen one


class Features(NamedTuple):
    """Of the images of a `Probing`, in their order."""

    train: np.ndarray  # [m f] float32
    val: np.ndarray
    test: np.ndarray
    head: Head | None = None  # of a supervised method
    views: Views | None = None  # of the training images, for probes that look at them


def probing(experiment: Experiment, config: ConfigDict) -> Probing:
    """Gather the images of all experiences, training labels cut to the budget."""
    dataset, bench = experiment.judged

    def split(
        image: np.ndarray, label: np.ndarray, parts: tuple[np.ndarray, ...]
    ) -> Split:
        index = np.concatenate(parts)
        task = np.repeat(np.arange(len(parts), dtype=np.int32), [len(p) for p in parts])
        return Split(Rows(image, index), np.asarray(label[index]), task)

    fitted = set(config.probe.names) - {CLASSIFIER}
    none = (np.zeros(0, np.int32),)  # training images that would not be looked at
    train = split(
        dataset.train_image, dataset.train_label, bench.train if fitted else none
    )
    shares = budgets(train, config.probe)
    kept = shares[max(shares)]  # holds the smaller ones
    return Probing(
        Split(train.image[kept], train.label[kept], train.task[kept]),
        split(dataset.train_image, dataset.train_label, bench.val),
        split(dataset.test_image, dataset.test_label, bench.test),
        len(bench.test),
        {ratio: np.searchsorted(kept, rows) for ratio, rows in shares.items()},
    )


def budgets(train: Split, probe: ConfigDict) -> dict[float, np.ndarray]:
    """Share of the labels -> sorted positions in `train`; smaller in larger shares.

    A share is one of each class in each task, so that every scope gets its share.
    """
    if not len(train.label):
        return {1: np.zeros(0, np.int64)}
    if probe.labels_per_class:
        rows = subset(probe.seed, train.label, per_class=probe.labels_per_class)
        return {1: rows}
    tasks = 1 + train.task.max()
    groups = train.label.astype(np.int64) * tasks + train.task
    return {r: subset(probe.seed, groups, ratio=r) for r in probe.ratios}


def features_of(encode: Encoder, variables: Variables, images: Probing) -> Features:
    """Features of everything that probes need; only test images there must be."""
    test = encode(variables, images.test.image)
    train, val = (
        encode(variables, split.image) if len(split.label) else test[:0]
        for split in (images.train, images.val)
    )
    return Features(train, val, test, variables.get("head"))


def judge(
    probes: Mapping[str, Fit | Looking],
    ways: Sequence[Variant],
    images: Probing,
    features: Features,
    *,
    seed: int,
    after: int,
    met: bool = False,
) -> Accuracies:
    """Accuracy, in every way asked for, of an encoder after experience `after`.

    Args:
      probes: by name.
      ways: which of them, in which scope, on which share of the labels.
      images: that were encoded.
      features: of these images.
      seed: of the run; all classifiers of a probing share one key.
      after: the experience just learnt.
      met: whether the method's own classifier chooses among the classes of the
        experiences so far, of a shuffled stream among all of its classes; else among
        all that it has an output for.

    Raises:
      TrainingError: if features are not finite. The parameters may be: large ones
        overflow within the network.
    """
    if not all(np.isfinite(x).all() for x in features[:3]):
        raise TrainingError(
            f"the encoder's features are not finite after experience {after}, seed "
            f"{seed}. A smaller optimizer.learning_rate often helps."
        )
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), PROBE_KEY), after)
    found = Accuracies([], [], [])
    asked = (images.test, features.test), (images.val, features.val)
    for way in ways:
        name, accuracy = way.label, np.full((len(asked), images.tasks), np.nan)
        for tasks in way.groups(images.tasks, after):
            if way.probe == CLASSIFIER:
                last = after if way.defines == "classifier" else images.tasks - 1
                known = images.met(last) if met else None
                predict: Predict | None = own(features, known)
            else:
                fit, share = probes[way.probe], images.shares[way.ratio]
                predict = fitted(fit, key, images, features, share, tasks)
            found.rates.extend(of_sweep(predict, name, seed, after, tasks))
            if predict:
                accuracy[:, tasks] = [right(predict, *pair, tasks) for pair in asked]
        for records, row in zip(found[:2], accuracy, strict=True):
            records += to_records(row, seed=seed, probe=name, after_experience=after)
    return found


def own(features: Features, known: np.ndarray | None = None) -> Predict:
    """A supervised method's own classifier, of all classes or of those in `known`."""
    assert features.head is not None
    head = {name: np.asarray(value) for name, value in features.head.items()}
    bias = head["bias"]
    if known is not None:
        bias = bias + np.where(np.isin(np.arange(len(bias)), known), 0.0, -np.inf)

    def predict(x: Any) -> np.ndarray:
        logits = np.asarray(x) @ head["kernel"] + bias
        if "gate_kernel" in head:
            gate = np.asarray(x) @ head["gate_kernel"] + head["gate_bias"]
            logits *= 0.5 * (1 + np.tanh(gate / 2))  # a sigmoid that cannot overflow
        return np.argmax(logits, axis=1)

    return predict


def fitted(
    fit: Fit | Looking,
    key: Key,
    images: Probing,
    features: Features,
    share: np.ndarray,
    tasks: range,
) -> Predict | None:
    """A classifier that knows `tasks` alone; None if no image of these has a label.

    Args:
      fit: the probe.
      key: of the fit.
      images: that were encoded.
      features: of these images.
      share: [m] positions of the training images that have a label.
      tasks: whose images it is fitted and tuned on.
    """
    train, val = share[np.isin(images.train.task[share], tasks)], images.val.of(tasks)
    label = images.train.label[train]
    if not len(label):
        return None
    if (label == label[0]).all():  # there is nothing to learn, and probes refuse it
        return lambda x: np.full(len(x), label[0])
    x, val_x = features.train[train], features.val[val]
    if isinstance(fit, Looking):
        assert features.views is not None
        return fit.fit(key, features.views.of(train), x, label)
    return fit(key, x, label, val_x, images.val.label[val])


def right(predict: Predict, split: Split, x: np.ndarray, tasks: range) -> np.ndarray:
    """[len(tasks)] percentage of right predictions in each of `tasks`.

    Args:
      predict: a fitted classifier.
      split: images.
      x: [m f] features of them.
      tasks: consecutive ones; NaN for one without images.
    """
    rows = split.of(tasks)
    predicted = predict(x[rows]) if len(rows) else np.zeros(0, np.int32)
    return task_accuracy(
        predicted,
        split.label[rows],
        split.task[rows] - tasks.start,
        n_tasks=len(tasks),
    )
