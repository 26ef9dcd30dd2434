"""The learning rates that probes have tried and chosen: the rows of `rates.csv`."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ocssl_jax import workdir
from ocssl_jax.errors import UsageError
from ocssl_jax.probes import Predict, Swept


class Rate(NamedTuple):
    """A rate that a classifier was trained with."""

    seed: int
    probe: str
    after_experience: int
    task: int  # the first that the classifier is about
    learning_rate: float
    held_out: float  # accuracy on rows held out, percent; NaN if it is not finite
    chosen: int  # 1 or 0


def of_sweep(
    predict: Predict | None, probe: str, seed: int, after_experience: int, tasks: range
) -> list[Rate]:
    """Rows of one classifier; none unless it is of one rate of several."""
    if not isinstance(predict, Swept):
        return []
    about = seed, probe, after_experience, tasks[0]
    return [
        Rate(*about, rate, accuracy, int(rate == predict.rate))
        for rate, accuracy in predict.tried.items()
    ]


def write(path: Path, rates: Iterable[Rate]) -> None:
    """Replace `rates.csv`."""
    lines = [",".join(Rate._fields)]
    lines += [",".join(map(str, rate)) for rate in rates]
    workdir.write(path, "\n".join(lines) + "\n")


def read(path: Path) -> list[Rate]:
    """The rows of a `rates.csv`.

    Raises:
      UsageError: if the file is damaged.
    """
    kinds = int, str, int, int, float, float, int
    try:
        header, *rows = csv.reader(io.StringIO(path.read_text()))
        if tuple(header) != Rate._fields:
            raise ValueError(f"its columns are {', '.join(header)}")
        return [
            Rate(*(kind(word) for kind, word in zip(kinds, row, strict=True)))
            for row in rows
        ]
    except ValueError as error:
        raise UsageError(
            f"{path} is damaged ({error}); delete it and the accuracy.csv beside it, "
            f"and repeat"
        ) from error


def told(rates: Sequence[Rate]) -> list[str]:
    """Lines that say what was chosen for the last encoders there are."""
    last = max((rate.after_experience for rate in rates), default=0)
    rows = [rate for rate in rates if rate.after_experience == last]
    lines = []
    for probe in dict.fromkeys(rate.probe for rate in rows):
        tried = sorted({r.learning_rate for r in rows if r.probe == probe})
        found = [r.learning_rate for r in rows if r.probe == probe and r.chosen]
        words = [f"{rate:g} ({found.count(rate)} of {len(found)})" for rate in tried]
        line = f"{probe}: learning rates chosen: {', '.join(words)}"
        if {tried[0], tried[-1]} & set(found):
            line += "; others beyond these may be better (--rates)"
        lines.append(line)
    return lines
