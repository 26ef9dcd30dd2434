"""Loss components and learning rate over the stream, from the lines of metrics.jsonl.

A loss is any numeric entry whose name contains 'loss'; the learning rate is
`learning_rate`. Where a line has `per_seed`, a dict of lists, its values are preferred.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ocssl_jax.report import style

SMOOTH = 200  # with more points than this a running mean is drawn over the raw line
MOST_BOUNDARIES = 40

History = Sequence[Mapping[str, Any]]


def series(history: History, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps [n] and values [n s] of one entry, lines without it left out."""
    found = [(line["step"], _seeds(line, name)) for line in history]
    found = [(step, values) for step, values in found if values]
    if not found:
        return np.empty(0), np.empty((0, 1))
    steps, values = zip(*found, strict=True)
    return np.array(steps), np.array(values, np.float64)


def loss_names(history: History) -> list[str]:
    """Entries that are losses, the total `loss` first."""
    names = dict.fromkeys(name for line in history for name in line if "loss" in name)
    return sorted(
        (n for n in names if len(series(history, n)[0])), key=lambda n: n != "loss"
    )


def losses_picture(path: Path, *, history: History) -> None:
    """Draw the losses and, below, the learning rate against stream batches.

    Args:
      path: file to write, a PNG.
      history: lines of metrics.jsonl with `step`, losses and `learning_rate`.
    """
    names = loss_names(history)
    steps, rate = series(history, "learning_rate")
    rows = 2 if len(steps) else 1
    with style.figure(path, width=7.5, height=3.4 + 1.4 * (rows - 1)) as figure:
        ratios = [3.2, 1.0][:rows]
        panels = figure.subplots(
            rows, 1, sharex=True, squeeze=False, height_ratios=ratios
        )[:, 0]
        for i, name in enumerate(names):
            label = "total" if name == "loss" else name.removeprefix("loss_")
            curve(panels[0], *series(history, name), label, style.COLOURS[i % 6])
        panels[0].set(title="Training losses", ylabel="loss")
        if rows == 2:
            panels[1].plot(steps, np.nanmean(rate, axis=1), color=style.MUTED)
            panels[1].set_ylabel("learning rate")
            panels[1].set_ylim(bottom=0)
            panels[1].locator_params(axis="y", nbins=3)
        for axes in panels:
            boundaries(axes, history)
            axes.margins(x=0.01)
        style.legend_right(panels[0])
        panels[-1].set_xlabel("stream batches learnt")
        figure.align_ylabels(panels)


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Mean [n] of `values` [n] over a centred window, which is shorter at both ends."""
    kernel = np.ones(width)
    total = np.convolve(values, kernel, mode="same")
    return total / np.convolve(np.ones(len(values)), kernel, mode="same")


def curve(
    axes: Any, steps: np.ndarray, values: np.ndarray, name: str, colour: str
) -> None:
    """Mean over seeds, their range as a band; many points are smoothed."""
    mean = np.nanmean(values, axis=1)
    if values.shape[1] > 1:
        low, high = np.nanmin(values, axis=1), np.nanmax(values, axis=1)
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0)
    if len(steps) > SMOOTH:
        axes.plot(steps, mean, color=colour, alpha=0.25, lw=0.7)
        mean = running_mean(mean, len(steps) // 50)
    axes.plot(steps, mean, color=colour, label=name)


def boundaries(axes: Any, history: History, *, named: bool = True) -> None:
    """Thin lines where a new experience begins, `named` in the legend."""
    pairs = [(h["experience"], h["step"]) for h in history if "experience" in h]
    starts = [step for (before, _), (now, step) in pairwise(pairs) if now != before]
    if 0 < len(starts) <= MOST_BOUNDARIES:
        axes.grid(False, axis="x")  # else two kinds of upright lines are confused
        look = {"color": style.MUTED, "lw": 0.7, "alpha": 0.5, "zorder": 0}
        for i, step in enumerate(starts):
            axes.axvline(
                step, label="new experience" if named and not i else None, **look
            )


def _seeds(line: Mapping[str, Any], name: str) -> list[float]:
    """The values of an entry, one a seed, NaN of those that stopped; or none at all."""
    value = line.get("per_seed", {}).get(name, line.get(name))
    values = value if isinstance(value, list | tuple) else [value]
    numeric = all(isinstance(v, int | float) or v is None for v in values)
    known = any(v is not None for v in values)
    return [np.nan if v is None else v for v in values] if numeric and known else []
