"""Accuracy over the stream and the accuracy matrix, drawn from records alone."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ocssl_jax import metrics
from ocssl_jax.accuracy import Record, to_matrix
from ocssl_jax.report import style
from ocssl_jax.report.table import NAMES

STAIRS = "above the line: tasks seen so far, below it: tasks still to come"
MOST_PANELS = 3  # side by side
MOST_NUMBERS = 12  # with more tasks a matrix is read by its colours


def probe_names(records: Sequence[Record]) -> list[str]:
    """Probes in the order in which they appear."""
    return list(dict.fromkeys(r.probe for r in records))


def matrices(records: Sequence[Record], probe: str, n_tasks: int) -> np.ndarray:
    """The accuracy matrices [s t e] of one probe, seeds ascending, NaN-padded."""
    seeds = sorted({r.seed for r in records if r.probe == probe})
    found = [to_matrix(records, seed=s, probe=probe, n_tasks=n_tasks) for s in seeds]
    last = max(m.shape[1] for m in found)
    filled = np.full((len(found), n_tasks, last), np.nan)
    for row, m in zip(filled, found, strict=True):
        row[:, : m.shape[1]] = m
    return filled


def accuracy_picture(
    path: Path,
    *,
    records: Sequence[Record],
    sizes: Sequence[int],
    baselines: Mapping[str, Sequence[Record]],
) -> None:
    """Draw accuracy over the stream: mean line, ± sample std over seeds, by probe.

    Args:
      path: file to write, a PNG.
      records: accuracies of the run.
      sizes: [t] test samples a task.
      baselines: records by name, drawn dashed where they share a probe with the run.
    """
    probes = probe_names(records)
    columns = min(len(probes), MOST_PANELS)
    lines = -(-len(probes) // columns)
    width = 2.6 + 3.6 * columns if columns > 1 else 7.5
    with style.figure(path, width=width, height=3.9 * lines) as figure:
        grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
        panels = list(grid.flat)[: len(probes)]
        for axes in list(grid.flat)[len(probes) :]:
            axes.set_visible(False)
        for axes, probe in zip(panels, probes, strict=True):
            found = matrices(records, probe, len(sizes))
            joint = [metrics.overall(m, sizes) for m in found]
            course = [metrics.course(m, sizes) for m in found]
            if np.array_equal(joint, course, equal_nan=True):
                mean_line(axes, joint, "all classes", style.COLOURS[0])
            if found.shape[2] > 1 and len(sizes) > 1:
                so_far = [metrics.seen(m) for m in found]
                mean_line(axes, so_far, "tasks seen so far", style.COLOURS[1])
            for name, rows in baselines.items():
                if probe in probe_names(rows):
                    known = matrices(rows, probe, len(sizes))
                    _baseline(axes, NAMES.get(name, name), known, sizes)
            comma = ", " if lines == 1 else "\n"  # the names of many are long
            seeds = f"{comma}mean ± std of {len(found)} seeds" if len(found) > 1 else ""
            axes.set_title(f"{probe} probe{seeds}")
            axes.set_xlabel("experiences learnt")
            style.whole_numbers(axes.xaxis)
        _baseline_dashes(panels)
        for axes in panels[::columns]:
            axes.set_ylabel("test accuracy (%)")
        style.legend_right(grid[0, -1])


def mean_line(
    axes: Any,
    curves: Sequence[np.ndarray],
    label: str,
    colour: str,
    dashes: Any = "-",
) -> None:
    """Mean ± sample std of the seeds' curves [e], probed experiences only."""
    values = np.stack(curves)
    probed = np.flatnonzero(~np.isnan(values).all(axis=0))
    spread = [metrics.spread(values[:, j].tolist()) for j in probed]
    mean = np.array([s["mean"] for s in spread], np.float64)
    std = np.array([s["std"] or 0.0 for s in spread], np.float64)
    x = probed + 1
    marker = "o" if len(x) <= 25 else None
    look = {"color": colour, "linestyle": dashes, "marker": marker}
    axes.plot(x, mean, label=label, ms=4, zorder=3, **look)
    if std.any():
        axes.fill_between(x, mean - std, mean + std, color=colour, alpha=0.18, lw=0)


def _baseline(axes: Any, name: str, found: np.ndarray, sizes: Sequence[int]) -> None:
    """Mean accuracy of a baseline; a single probing is a level, not a point."""
    values = np.stack([metrics.course(m, sizes) for m in found])
    probed = np.flatnonzero(~np.isnan(values).all(axis=0))
    mean = np.array([metrics.spread(values[:, j].tolist())["mean"] for j in probed])
    if len(probed) == 1:
        line = axes.axhline(mean[0], label=name, zorder=2)
    else:
        (line,) = axes.plot(probed + 1, mean, label=name, zorder=2)
    line.set(color=style.MUTED, linewidth=1.4, gid="baseline")


def _baseline_dashes(panels: Sequence[Any]) -> None:
    """One dash pattern and grey a baseline, the same in every panel."""
    lines = [line for axes in panels for line in axes.lines]
    lines = [line for line in lines if line.get_gid() == "baseline"]
    names = list(dict.fromkeys(line.get_label() for line in lines))
    for line in lines:
        i = names.index(line.get_label())
        line.set_linestyle(style.DASHES[i % len(style.DASHES)])
        if i >= len(style.DASHES):
            line.set_color(style.COLOURS[2 + i % 4])


def matrix_picture(
    path: Path, *, records: Sequence[Record], probe: str, n_tasks: int
) -> None:
    """Draw the accuracy matrix of one probe, the mean over seeds.

    Args:
      path: file to write, a PNG.
      records: accuracies of the run.
      probe: the probe to show.
      n_tasks: number of tasks, the rows.
    """
    found = matrices(records, probe, n_tasks)
    probed = np.flatnonzero(~np.isnan(found).all(axis=(0, 1)))
    mean = np.array(
        [
            [metrics.spread(cell.tolist())["mean"] for cell in row]
            for row in found.T[probed]
        ],
        np.float64,
    ).T  # [t columns], None became NaN
    width, height = _matrix_size(*mean.shape)
    with style.figure(path, width=width, height=height) as figure:
        axes = figure.subplots()
        axes.grid(False)
        axes.set_facecolor("#eeeeee")  # unmeasured
        image = axes.imshow(mean, cmap="YlGnBu", aspect="auto", interpolation="none")
        if not np.nanmax(mean) - np.nanmin(mean) >= 1:
            image.set_clim(0, 100)  # else colours would tell apart what is alike
        bar = figure.colorbar(image, ax=axes, label="test accuracy (%)", pad=0.02)
        bar.outline.set_visible(False)
        if max(mean.shape) <= MOST_NUMBERS:
            _numbers(axes, mean, image)
        _staircase(axes, probed, n_tasks)
        seeds = len(found)
        over = f", mean of {seeds} seeds" if seeds > 1 else ""
        axes.set_title(f"Accuracy on each task\n{probe} probe{over}")
        axes.set(xlabel="experiences learnt", ylabel="task")
        if n_tasks > 1 and len(probed) > 1:
            axes.set_xlabel(f"experiences learnt\n{STAIRS}")
        for axis, names in (
            (axes.xaxis, probed + 1),
            (axes.yaxis, np.arange(n_tasks) + 1),
        ):
            shown = list(_spaced(len(names)))
            axis.set_ticks(shown, [str(names[i]) for i in shown])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)


def _matrix_size(rows: int, columns: int) -> tuple[float, float]:
    """Inches that keep cells near square for few and for many tasks."""
    cell = 0.5 if max(rows, columns) <= MOST_NUMBERS else 0.3
    inches = lambda n: float(np.clip(cell * n, 2.4, 7.0))
    return max(inches(columns) + 1.8, 5.2), inches(rows) + 1.3


def _numbers(axes: Any, mean: np.ndarray, image: Any) -> None:
    """Write each cell's percentage, dark on light and light on dark."""
    for (i, j), value in np.ndenumerate(mean):
        if np.isnan(value):
            axes.text(j, i, "-", ha="center", va="center", color=style.MUTED)
            continue
        red, green, blue, _ = image.cmap(image.norm(value))
        light = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
        colour = style.INK if light else "white"
        axes.text(j, i, f"{value:.0f}", ha="center", va="center", color=colour, size=9)


def _staircase(axes: Any, probed: np.ndarray, n_tasks: int) -> None:
    """A line between tasks already learnt (above) and tasks still to come."""
    if n_tasks < 2:
        return
    edges = np.arange(len(probed) + 1) - 0.5
    # Where nothing is still to come the line lies outside, and is not drawn.
    heights = np.where(probed + 1 < n_tasks, probed + 1, n_tasks + 1) - 0.5
    for colour, width in (("white", 3.6), (style.INK, 1.4)):  # seen on every colour
        axes.stairs(heights, edges, baseline=None, color=colour, lw=width)
    axes.set(xlim=(edges[0], edges[-1]), ylim=(n_tasks - 0.5, -0.5))


def _spaced(n: int) -> Iterator[int]:
    """Positions of at most about twelve evenly spaced tick labels."""
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**6) if n <= 12 * s)
    return iter(range(0, n, step) if step == 1 else range(step - 1, n, step))
