"""A run's report folder: pictures and a page, from plain data alone."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ocssl_jax.accuracy import Record
from ocssl_jax.report.features import Seen
from ocssl_jax.report.forgetting import forgetting_picture, forgotten
from ocssl_jax.report.held import held_picture, told
from ocssl_jax.report.losses import History, loss_names, losses_picture
from ocssl_jax.report.map import map_picture
from ocssl_jax.report.memory import memory_picture
from ocssl_jax.report.neighbours import neighbour_sheet
from ocssl_jax.report.page import page
from ocssl_jax.report.pictures import accuracy_picture, matrix_picture, probe_names
from ocssl_jax.report.selection import chance, ratios, selection_picture
from ocssl_jax.report.sheet import Sheet


def write_report(
    out_dir: Path | str,
    *,
    summary: Mapping[str, Any],
    accuracy: Sequence[Record],
    history: History,
    baselines_accuracy: Mapping[str, Sequence[Record]],
    sheet: Sheet | None,
    seen: Seen | None,
    config: Mapping[str, Any],
) -> Path:
    """Write `index.html` and its pictures: `accuracy.png`, `matrix.png` and others.

    A part without data has no picture: a run without probes, logs or memory is
    reported all the same.

    Args:
      out_dir: folder to write to; made if absent.
      summary: content of `summary.json`. `test_sizes` [t], the test samples a task,
        weighs joint accuracies (absent: all alike); `probe` names the probe that the
        metrics and the matrix show (absent: the first recorded).
      accuracy: records of the run.
      history: lines of `metrics.jsonl`.
      baselines_accuracy: records of each baseline by name.
      sheet: what the memory holds, None without a memory.
      seen: images and their features, None without any.
      config: content of `config.json`.

    Returns:
      The path of `index.html`.
    """
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    pictures = {
        "Accuracy": [*_accuracy(out_dir, summary, accuracy, baselines_accuracy)],
        "Forgetting": [*_forgetting(out_dir, summary, accuracy)],
        "Features": [*_features(out_dir, seen)],
        "Memory": [*_held(out_dir, history), *_memory(out_dir, sheet)],
        "Learning": [
            *_losses(out_dir, history),
            *_selection(out_dir, history, config.get("config", {})),
        ],
    }
    index = out_dir / "index.html"
    text = page(summary=summary, config=config, pictures=pictures)
    index.write_text(text, encoding="utf-8")
    return index


FORGETTING = (
    "What was forgotten of each task: its best accuracy since it was learnt, minus the "
    "final one."
)
MAP = (
    "Features of {} {} by the final encoder of the first seed, in two "
    "dimensions. In the map by t-SNE only who is near whom has a meaning."
)
SOME = " Some images are shown at their places."
NEIGHBOURS = (
    "Images, on the left, and those with the most similar features (cosine), the "
    "nearest first{}."
)
OF_CLASS = "; and how many are of the same class, of as many as could be"
HELD = (
    "What the memory held, and where there are centroids how far from all of them an "
    "image has to be to found a new one (threshold), and the share of a stream batch "
    "that was."
)
Pictures = Iterator[tuple[Path, str]]  # file and caption


def _accuracy(out_dir, summary, accuracy, baselines) -> Pictures:
    if not accuracy:
        return
    sizes, probe = _judged(summary, accuracy)
    path = out_dir / "accuracy.png"
    accuracy_picture(path, records=accuracy, sizes=sizes, baselines=baselines)
    yield path, "Test accuracy over the stream; bands are ± one sample std over seeds."
    path = out_dir / "matrix.png"
    matrix_picture(path, records=accuracy, probe=probe, n_tasks=len(sizes))
    yield path, "Accuracy on each task after each experience."


def _judged(summary: Mapping[str, Any], accuracy: Sequence[Record]):
    """Test samples of each task, and the probe that stands for the run."""
    sizes = summary.get("test_sizes") or [1] * (1 + max(r.task for r in accuracy))
    return sizes, summary.get("probe") or probe_names(accuracy)[0]


def _forgetting(out_dir, summary, accuracy) -> Pictures:
    if not accuracy:
        return
    sizes, probe = _judged(summary, accuracy)
    lost = forgotten(accuracy, probe, len(sizes))
    if summary.get("metrics", {}).get("forgetting") and not np.isnan(lost).all():
        path = out_dir / "forgetting.png"
        forgetting_picture(path, dropped=lost, probe=probe)
        yield path, FORGETTING


def _losses(out_dir: Path, history: History) -> Pictures:
    if loss_names(history):
        losses_picture(out_dir / "losses.png", history=history)
        yield out_dir / "losses.png", "Losses and learning rate over the stream."


def _selection(out_dir: Path, history: History, config: Any) -> Pictures:
    if len(ratios(history)):
        path = out_dir / "selection.png"
        selection_picture(path, history=history, level=chance(config))
        yield path, "Share of the stream's rows among those chosen, by pass."


def _features(out_dir: Path, seen: Seen | None) -> Pictures:
    if seen is None:
        return
    map_picture(out_dir / "map.png", seen=seen)
    shown = "" if seen.label.max() >= 0 else SOME
    yield out_dir / "map.png", MAP.format(len(seen.label), seen.noun) + shown
    sheet = neighbour_sheet(seen)
    memory_picture(out_dir / "neighbours.png", sheet=sheet)
    classes = OF_CLASS if (seen.label >= 0).all() else ""
    yield out_dir / "neighbours.png", NEIGHBOURS.format(classes)


def _held(out_dir: Path, history: History) -> Pictures:
    if told(history):
        held_picture(out_dir / "held.png", history=history)
        yield out_dir / "held.png", HELD


def _memory(out_dir: Path, sheet: Sheet | None) -> Pictures:
    if sheet is not None:
        memory_picture(out_dir / "memory.png", sheet=sheet)
        yield out_dir / "memory.png", f"What the memory holds. {sheet.caption}."
