"""A run's report folder: pictures and a page, from plain data alone."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ocssl_jax.accuracy import Record
from ocssl_jax.report.losses import History, loss_names, losses_picture
from ocssl_jax.report.memory import memory_picture
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
    config: Mapping[str, Any],
) -> Path:
    """Write `index.html` and `accuracy`, `matrix`, `losses`, `selection`, `memory.png`.

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
      config: content of `config.json`.

    Returns:
      The path of `index.html`.
    """
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    pictures = [
        *_accuracy(out_dir, summary, accuracy, baselines_accuracy),
        *_losses(out_dir, history),
        *_selection(out_dir, history, config.get("config", {})),
        *_memory(out_dir, sheet),
    ]
    index = out_dir / "index.html"
    text = page(summary=summary, config=config, pictures=pictures)
    index.write_text(text, encoding="utf-8")
    return index


Pictures = Iterator[tuple[Path, str]]  # file and caption


def _accuracy(out_dir, summary, accuracy, baselines) -> Pictures:
    if not accuracy:
        return
    sizes = summary.get("test_sizes") or [1] * (1 + max(r.task for r in accuracy))
    path = out_dir / "accuracy.png"
    accuracy_picture(path, records=accuracy, sizes=sizes, baselines=baselines)
    yield path, "Test accuracy over the stream; bands are ± one sample std over seeds."
    path = out_dir / "matrix.png"
    probe = summary.get("probe") or probe_names(accuracy)[0]
    matrix_picture(path, records=accuracy, probe=probe, n_tasks=len(sizes))
    yield path, "Accuracy on each task after each experience."


def _losses(out_dir: Path, history: History) -> Pictures:
    if loss_names(history):
        losses_picture(out_dir / "losses.png", history=history)
        yield out_dir / "losses.png", "Losses and learning rate over the stream."


def _selection(out_dir: Path, history: History, config: Any) -> Pictures:
    if len(ratios(history)):
        path = out_dir / "selection.png"
        selection_picture(path, history=history, level=chance(config))
        yield path, "Share of the stream's rows among those chosen, by pass."


def _memory(out_dir: Path, sheet: Sheet | None) -> Pictures:
    if sheet is not None:
        memory_picture(out_dir / "memory.png", sheet=sheet)
        yield out_dir / "memory.png", f"What the memory holds. {sheet.caption}."
