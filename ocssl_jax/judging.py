"""A run's probings: what its encoders were worth so far, and the files that say so."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from ocssl_jax import accuracy, scopes
from ocssl_jax.build import Experiment
from ocssl_jax.constant import judge_constant
from ocssl_jax.core import Variables
from ocssl_jax.data import Dataset
from ocssl_jax.encoding import Encoder
from ocssl_jax.errors import TrainingError, UsageError
from ocssl_jax.probing import Accuracies, features_of, judge, probing
from ocssl_jax.report.features import Seen, seen
from ocssl_jax.rows import Rows, Split

LOST = "bring the file back, or start over in another --workdir"
Encoders = Iterable[tuple[int, Variables]]  # of each seed


class Judge:
    """Judges encoders after experiences, and knows which it has judged already."""

    def __init__(self, experiment: Experiment, config: ConfigDict, folder: Path):
        """Nothing is read or encoded yet.

        Args:
          experiment: whose images and probes are used.
          config: of the run.
          folder: where `accuracy.csv` and `validation.csv` lie.
        """
        self.probes, self.every = experiment.probes, config.probe.every
        self.last = int(experiment.schedules[0].experience[-1])
        self.images = probing(experiment, config) if config.probe.names else None
        self.ways = scopes.variants(config.probe, iid=config.stream.kind == "iid")
        self.met = experiment.learning.method.meet is not None
        self.encode = Encoder(
            experiment.learning.encode, batch_size=config.probe.batch_size
        )
        self.dataset = experiment.dataset
        self.class_names = experiment.judged[0].class_names
        self.path, self.val_path = folder / "accuracy.csv", folder / "validation.csv"
        self.records: list[accuracy.Record] = []
        self.validation: list[accuracy.Record] = []

    def seen(self, variables: Variables) -> Seen | None:
        """Some images and their features, for the report.

        Without probes, which may be for want of labels, those that were learnt from.
        """
        encode = partial(self.encode, variables)
        if self.images is not None:
            return seen(encode, self.images.test, self.class_names)
        images = arrived(self.dataset)
        return seen(encode, images, self.dataset.class_names, "images of the stream")

    def resume(self, passed: Iterable[int], reached: Iterable[int]) -> None:
        """Read what has been judged.

        Args:
          passed: experiences that lie behind the run.
          reached: these, and the one whose end the run stands at, if it does.

        Raises:
          UsageError: if rows are missing that cannot be measured again.
        """
        rows, held = self._read(self.path), self._read(self.val_path)
        found = {row.after_experience for row in rows}
        lacking = {row.after_experience for row in self._unmatched(rows, held)}
        for experience in passed:
            for path, known in (self.path, found), (self.val_path, found - lacking):
                if self.wants(experience) and experience not in known:
                    raise UsageError(
                        f"{path} lacks experience {experience}, which this run has "
                        f"passed: {LOST}"
                    )
        earned = (found - lacking) & set(reached)
        self.records = [row for row in rows if row.after_experience in earned]
        self.validation = [row for row in held if row.after_experience in earned]

    def _read(self, path: Path) -> list[accuracy.Record]:
        tasks = self.images.tasks if self.images else None
        return accuracy.read(path, tasks=tasks, remedy=LOST) if path.exists() else []

    def _unmatched(
        self, rows: list[accuracy.Record], held: list[accuracy.Record]
    ) -> list[accuracy.Record]:
        """Test rows without a row on the validation images of their task."""
        if self.images is None:
            return []
        sizes = self.images.val_sizes
        known = {row[:-1] for row in held}
        return [row for row in rows if sizes[row.task] and row[:-1] not in known]

    def wants(self, experience: int) -> bool:
        """Whether a run is judged after this experience."""
        if self.images is None or not self._testable(experience):
            return False
        return experience == self.last or (experience + 1) % self.every == 0

    def _testable(self, experience: int) -> bool:
        """Whether some way to judge has test images after this experience."""
        assert self.images is not None
        sizes = self.images.sizes
        return any(
            sizes[task]
            for way in self.ways
            for group in way.groups(len(sizes), experience)
            for task in group
        )

    def lacks(self, experience: int, seed: int | None = None) -> bool:
        """Whether accuracies are due that are not known, those of a seed or all."""
        known = any(
            row.after_experience == experience and seed in (None, row.seed)
            for row in self.records
        )
        return self.wants(experience) and not known

    def judge(self, encoders: Encoders, experience: int) -> None:
        """Judge the encoders and write both files; nothing of one that is not finite.

        Raises:
          TrainingError: if none is finite.
        """
        errors = []
        for seed, variables in encoders:
            try:
                found = self._accuracies(seed, variables, experience)
            except TrainingError as error:
                errors.append(error)
                continue
            self.records += found.test
            self.validation += found.val
        if errors and self.lacks(experience):
            raise errors[0]
        if self.validation:
            accuracy.write(self.val_path, self.validation)
        # Last: an experience counts as judged once its rows are in this file.
        accuracy.write(self.path, self.records)

    def _accuracies(self, seed: int, variables: Variables, after: int) -> Accuracies:
        assert self.images is not None
        # What nobody is asked about need not be encoded.
        known = all(way.defines == "classifier" for way in self.ways)
        images = self.images.upto(after) if known else self.images
        features = features_of(self.encode, variables, images)
        return judge(
            self.probes,
            self.ways,
            images,
            features,
            seed=seed,
            after=after,
            met=self.met,
        )

    def judge_constant(
        self, encoders: Encoders, experiences: list[int]
    ) -> list[accuracy.Record]:
        """What encoders that never change are worth after each of the experiences."""
        assert self.images is not None
        records: list[accuracy.Record] = []
        for seed, variables in encoders:
            features = features_of(self.encode, variables, self.images)
            records += judge_constant(
                self.probes,
                self.ways,
                self.images,
                features,
                seed=seed,
                after=experiences,
                met=self.met,
            )
        return records

    def mean(self, label: str, experience: int) -> float:
        """Accuracy over all test images that were probed, mean of the seeds.

        NaN if there were none: the tasks met so far may lack test images.
        """
        sizes = self.images.sizes if self.images else []
        rows = [
            row
            for row in self.records
            if row.probe == label and row.after_experience == experience
        ]
        weights = [sizes[row.task] for row in rows]
        if not rows:
            return float("nan")
        return float(np.average([row.accuracy for row in rows], weights=weights))


def arrived(dataset: Dataset) -> Split:
    """All images of a stream, with their domains as tasks if they are of some."""
    index = np.arange(len(dataset.train_label))
    domain = dataset.train_domain
    task = np.zeros_like(dataset.train_label) if domain is None else domain
    return Split(Rows(dataset.train_image, index), dataset.train_label, task)
