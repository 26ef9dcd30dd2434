"""How much of each task is forgotten at the end."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ocssl_jax import metrics
from ocssl_jax.accuracy import Record
from ocssl_jax.report import style
from ocssl_jax.report.pictures import matrices


def forgotten(records: Sequence[Record], probe: str, n_tasks: int) -> np.ndarray:
    """Best accuracy of a task since it was learnt, minus the final one: [s t] percent.

    NaN of tasks that were not learnt, and of the last one, which there was no time to
    forget.
    """
    found = np.stack([metrics.dropped(m) for m in matrices(records, probe, n_tasks)])
    last = max(r.after_experience for r in records if r.probe == probe)
    found[:, last:] = np.nan
    return found


def forgetting_picture(path: Path, *, dropped: np.ndarray, probe: str) -> None:
    """Draw a bar a task, the mean over seeds ± sample std.

    Args:
      path: file to write, a PNG.
      dropped: of `forgotten`, [s t].
      probe: its name.
    """
    tasks = np.flatnonzero(~np.isnan(dropped).all(axis=0))
    spread = [metrics.spread(dropped[:, t].tolist()) for t in tasks]
    mean = [one["mean"] for one in spread]
    std = [one["std"] or 0.0 for one in spread]
    width = float(np.clip(2.2 + 0.45 * len(tasks), 4.5, 9.0))
    with style.figure(path, width=width, height=3.2) as figure:
        axes = figure.subplots()
        axes.bar(tasks + 1, mean, color=style.COLOURS[0], width=0.7)
        if any(std):
            look = {"ecolor": style.MUTED, "elinewidth": 1.2, "capsize": 3}
            below = np.minimum(mean, std)  # it is never less than 0
            axes.errorbar(tasks + 1, mean, yerr=[below, std], fmt="none", **look)
        axes.axhline(0, color=style.MUTED, lw=0.8)
        axes.grid(False, axis="x")
        seeds = f", mean ± std of {len(dropped)} seeds" if len(dropped) > 1 else ""
        axes.set_title(f"Forgetting\n{probe} probe{seeds}")
        axes.set(xlabel="task", ylabel="best minus final (%)")
        axes.set_xlim(tasks[0] + 0.4, tasks[-1] + 1.6)
        style.whole_numbers(axes.xaxis)
