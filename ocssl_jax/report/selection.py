"""Which part of the rows trained on came from the stream, pass by pass.

Figure 3b of "Speeding Up Online Self-Supervised Learning by Exploiting Its
Limitations": the mean over the last 100 stream batches, and the last one, which need
not fall as the mean does.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ocssl_jax.report import style

NAME = "stream_ratio"  # of the log's lines, one number a pass
LATEST = 100  # stream batches that the mean is over

History = Sequence[Mapping[str, Any]]


def ratios(history: History) -> np.ndarray:
    """[lines seeds passes] the stream's share, of the last 100 batches' lines.

    Empty where no line tells of it.
    """
    told = [line for line in history if isinstance(line.get(NAME), list)]
    late = [line for line in told if line["step"] > told[-1]["step"] - LATEST]
    own = [line.get("per_seed", {}).get(NAME, [line[NAME]]) for line in late]
    if not own:
        return np.empty(0)
    unknown = [np.nan] * len(late[-1][NAME])
    found = np.asarray([[unknown if s is None else s for s in line] for line in own])
    return found[:, ~np.isnan(found).any(axis=(0, 2))]  # of seeds that did not stop


def chance(config: Mapping[str, Any]) -> float | None:
    """The share of a random choice; None if the config lacks the pool's sizes."""
    try:
        stream = config["stream"]["batch_size"]
        return float(stream / (stream + config["strategy"]["replay_size"]))
    except (KeyError, TypeError):
        return None


def selection_picture(path: Path, *, history: History, level: float | None) -> None:
    """Draw the share of the stream by pass.

    Args:
      path: file to write, a PNG.
      history: lines of metrics.jsonl, of which one at least tells of the share.
      level: the share of a random choice, drawn as a line.
    """
    found = ratios(history)
    x = np.arange(found.shape[2]) + 1
    with style.figure(path, width=7.5, height=3.4) as figure:
        axes = figure.subplots()
        seeds = found.mean(axis=0)
        look = {"marker": "o" if len(x) <= 25 else None, "ms": 4}
        if len(seeds) > 1:
            low, high = seeds.min(axis=0), seeds.max(axis=0)
            axes.fill_between(x, low, high, color=style.COLOURS[0], alpha=0.18, lw=0)
        mean = f"mean of the last {LATEST} batches"
        axes.plot(x, seeds.mean(axis=0), color=style.COLOURS[0], label=mean, **look)
        last = found[-1].mean(axis=0)
        axes.plot(x, last, color=style.COLOURS[1], label="last batch", **look)
        if level is not None:
            axes.axhline(level, color=style.MUTED, ls=":", label="random choice")
        axes.set(title="Rows chosen from the stream", ylabel="share of all chosen")
        axes.set(xlabel="pass over the stream batch", ylim=(0, None))
        style.whole_numbers(axes.xaxis)
        style.legend_right(axes)
