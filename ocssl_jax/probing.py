"""What the frozen encoder is worth after an experience: joint probes over all classes.

Features are computed once and shared by the probes. The labels that a probe may use,
and its key, depend on seeds of their own: probing never changes training.

Each fitted probe is asked about the test images, for results, and about the validation
images, for choosing between runs. The linear probe has chosen its epoch on the latter,
as the reference's does, so its validation accuracy is a little too high to be reported.
"""

from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from ocssl_jax.accuracy import Record, task_accuracy, to_records
from ocssl_jax.build import Experiment
from ocssl_jax.core import Variables
from ocssl_jax.errors import TrainingError
from ocssl_jax.probes import subset

PROBE_KEY = 0x70726F62  # folded into a seed's key: apart from training's


class Split(NamedTuple):
    """Images of one role in probing."""

    image: np.ndarray  # [m h w c] uint8
    label: np.ndarray  # [m] int32
    task: np.ndarray  # [m] int32


class Probing(NamedTuple):
    """The images that probes train, tune and are tested on."""

    train: Split
    val: Split
    test: Split
    tasks: int

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


def probing(experiment: Experiment, config: ConfigDict) -> Probing:
    """Gather the images of all experiences, training labels cut to the budget."""
    dataset, bench = experiment.dataset, experiment.bench

    def split(
        image: np.ndarray, label: np.ndarray, parts: tuple[np.ndarray, ...]
    ) -> Split:
        index = np.concatenate(parts)
        task = np.repeat(np.arange(len(parts), dtype=np.int32), [len(p) for p in parts])
        return Split(np.asarray(image[index]), np.asarray(label[index]), task)

    train = split(dataset.train_image, dataset.train_label, bench.train)
    kept = subset(
        config.probe.seed, train.label, per_class=config.probe.labels_per_class
    )
    return Probing(
        Split(*(field[kept] for field in train)),
        split(dataset.train_image, dataset.train_label, bench.val),
        split(dataset.test_image, dataset.test_label, bench.test),
        len(bench.test),
    )


class Encoder:
    """Features of many images by one compiled function, `batch_size` at a time."""

    def __init__(self, experiment: Experiment, *, batch_size: int):
        """Compile nothing yet; the first call does."""
        self._batch_size = batch_size
        self._encode = jax.jit(experiment.learning.encode)

    def __call__(self, variables: Variables, images: np.ndarray) -> np.ndarray:
        """Features [m f] float32 of uint8 `images` [m h w c]."""
        size, features = self._batch_size, []
        for start in range(0, len(images), size):
            part = images[start : start + size]
            padded = np.concatenate([part, np.repeat(part[:1], size - len(part), 0)])
            encoded = self._encode(variables, padded)
            features.append(np.asarray(encoded)[: len(part)])
        return np.concatenate(features)


def probe(
    experiment: Experiment,
    encode: Encoder,
    images: Probing,
    variables: Variables,
    *,
    seed: int,
    after: int,
) -> Accuracies:
    """Accuracy of every probe on every task after experience `after`.

    Raises:
      TrainingError: if the encoder gives features that are not finite. Its parameters
        may be: large ones overflow within the network.
    """
    train_x = encode(variables, images.train.image)
    val_x = encode(variables, images.val.image) if len(images.val.label) else None
    test_x = encode(variables, images.test.image)
    if not all(np.isfinite(x).all() for x in (train_x, val_x, test_x) if x is not None):
        raise TrainingError(
            f"the encoder's features are not finite after experience {after}, seed "
            f"{seed}. A smaller optimizer.learning_rate often helps."
        )
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), PROBE_KEY), after)
    found = Accuracies([], [])
    for name, fit in experiment.probes.items():
        predict = fit(key, train_x, images.train.label, val_x, images.val.label)
        for x, split, records in (
            (test_x, images.test, found.test),
            (val_x, images.val, found.val),
        ):
            if x is not None:
                accuracy = task_accuracy(
                    predict(x), split.label, split.task, n_tasks=images.tasks
                )
                records += to_records(
                    accuracy, seed=seed, probe=name, after_experience=after
                )
    return found
