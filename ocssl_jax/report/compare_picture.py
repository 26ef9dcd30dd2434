"""Accuracy over the stream of several runs in one picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ocssl_jax import metrics
from ocssl_jax.report import style
from ocssl_jax.report.compare import Line
from ocssl_jax.report.pictures import matrices, mean_line

LOOKS = [(colour, dash) for dash in ("-", *style.DASHES) for colour in style.COLOURS]
NARROW = 40  # characters of labels that fit beside each other in the legend


def comparison_picture(path: Path, *, rows: Sequence[Line], probe: str) -> None:
    """Draw test accuracy against experiences, a line and a band each.

    Args:
      path: file to write, a PNG.
      rows: what to draw, all of one stream; bands are ± one sample std over seeds.
      probe: the probe whose accuracies are drawn.
    """
    columns = 2 if max(len(row.label) for row in rows) <= NARROW else 1
    legend = 0.22 * -(-len(rows) // columns)  # inches
    with style.figure(path, width=7.5, height=3.9 + legend) as figure:
        axes = figure.subplots()
        for i, row in enumerate(rows):
            curves = courses(row, probe)
            if curves:
                colour, dashes = LOOKS[i % len(LOOKS)]
                mean_line(axes, curves, row.label, colour, dashes)
        axes.set_title(rows[0].stream.title)
        axes.set(xlabel="experiences learnt", ylabel=f"test accuracy (%), {probe}")
        style.whole_numbers(axes.xaxis)
        figure.legend(loc="outside lower left", ncols=columns, handlelength=3)


def courses(row: Line, probe: str) -> list[np.ndarray]:
    """Every seed's `metrics.course`, NaN where not measured."""
    found = [
        metrics.course(matrix, run.sizes)
        for run in row.runs
        if any(record.probe == probe for record in run.records)
        for matrix in matrices(run.records, probe, len(run.sizes))
    ]
    longest = max(map(len, found), default=0)
    return [
        np.pad(curve, (0, longest - len(curve)), constant_values=np.nan)
        for curve in found
    ]
