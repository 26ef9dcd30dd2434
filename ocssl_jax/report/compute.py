"""Accuracy against what it cost to learn: runs at equal compute are neighbours.

The operations of a stream batch are counted off the trace of the run's own step
(`ocssl_jax.flops`), what a strategy computes to choose rows or to be taught included;
probing is not. So nothing is run again, but each run's network is built.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ocssl_jax import flops, settings
from ocssl_jax.core import Stream
from ocssl_jax.learning import make_learning
from ocssl_jax.report import style
from ocssl_jax.report.compare import Line
from ocssl_jax.report.compare_tables import Table
from ocssl_jax.report.runs import Found
from ocssl_jax.report.table import cell

TERA = 1e12
LOOKS = [(marker, colour) for marker in "osD^v" for colour in style.COLOURS]


class Spent(NamedTuple):
    """What the runs of a line computed."""

    line: Line
    updates: int  # of a seed
    operations: float  # of a seed's training, floating-point


def spent(rows: Sequence[Line]) -> list[Spent]:
    """The finished lines whose compute is known, from the cheapest to the dearest."""
    found = []
    for row in rows:
        run = row.runs[0]
        batch = operations(run) if run.summary else None
        if run.summary and batch:
            updates = int(run.summary["updates"])
            batches = updates / int(run.get("passes", 1))
            found.append(Spent(row, updates, batch * batches))
    return sorted(found, key=lambda one: one.operations)


def operations(run: Found) -> float | None:
    """Operations of one seed's stream batch; None without the exported encoder."""
    path = run.folder / "encoder" / "encoder.json"
    if not path.exists():
        return None
    about = json.loads(path.read_text())
    config = settings.from_json(settings.filled(run.config))
    names = tuple(about.get("class_names", ()))
    if config.method.name == "clip" and not names:  # of an older version
        return None
    shape = tuple(about["input"])
    made = make_learning(
        config,
        shape=shape,
        mean=tuple(about["mean"]),
        std=tuple(about["std"]),
        fresh=False,
        class_names=names,
        train_images=about.get("train_images", 0),
    )
    struct: Any = jax.ShapeDtypeStruct
    rows = config.stream.batch_size
    stream = Stream(
        struct((rows, *shape), jnp.uint8),
        struct((rows,), jnp.int32),
        struct((rows,), bool),
        struct((), bool),
        struct((rows,), jnp.int32) if made.head else None,
        struct((len(names),), jnp.float32) if made.method.pooled else None,
    )
    state = jax.eval_shape(made.init, jax.random.key(0), stream)
    return flops.count(made.step, state, stream)


def compute_table(found: Sequence[Spent], names: Sequence[str]) -> Table:
    """A row a line with its updates, its TFLOP a seed and the metrics `names`."""
    body = [
        [
            one.line.label,
            f"{one.updates:,}",
            short(one.operations / TERA),
            *(cell(one.line.values.get(name)) for name in names),
        ]
        for one in found
    ]
    head = ["strategy", "updates", "TFLOP a seed", *names]
    return Table("Accuracy by compute", head, body)


def short(number: float) -> str:
    """Three digits or more: '1.18', '13,500'."""
    return f"{number:.3g}" if number < 100 else f"{number:,.0f}"


def compute_picture(path: Path, found: Sequence[Spent], *, metric: str) -> None:
    """Draw a metric against compute, a point ± std a line.

    Args:
      path: file to write, a PNG.
      found: lines that have the metric.
      metric: such as 'FA', in percent.
    """
    with style.figure(path, width=7.5, height=3.6 + 0.22 * len(found)) as figure:
        axes = figure.subplots()
        for i, one in enumerate(found):
            value = one.line.values[metric]
            marker, colour = LOOKS[i % len(LOOKS)]
            axes.errorbar(
                one.operations / TERA,
                value["mean"],
                yerr=value["std"] or 0.0,
                fmt=marker,
                color=colour,
                capsize=3,
                label=one.line.label,
            )
        axes.set_title("Accuracy by compute")
        axes.set(xlabel="TFLOP a seed", ylabel=f"{metric} (%)", xlim=(0, None))
        figure.legend(loc="outside lower left", handlelength=2)
