"""Comparison of runs as an aligned table, for a terminal and for Markdown alike."""

from collections.abc import Mapping, Sequence
from typing import Any

from ocssl_jax.metrics import usual

NAMES = {
    "random": "random encoder",
    "zero_shot": "zero-shot",
    "none": "no strategy",
}  # baselines, in words
Row = tuple[str, Mapping[str, Any]]  # name, {metric: {'mean', 'std'}} of summary.json


def cell(value: Mapping[str, Any] | None) -> str:
    """`{'mean', 'std'}` in percent as '38.52 ± 0.41'; '-' where nothing is known."""
    if not value or value.get("mean") is None:
        return "-"
    mean = f"{round(value['mean'], 2) + 0.0:.2f}"  # 0.0 turns -0.00 into 0.00
    return mean if value.get("std") is None else f"{mean} ± {value['std']:.2f}"


def table(
    rows: Sequence[Row],
    *,
    metrics: Sequence[str] = (),
    first: str = "strategy",
) -> str:
    """A Markdown table with one line a run, mean ± sample std over seeds in percent.

    Args:
      rows: pairs of a name and the `metrics` part of a `summary.json`.
      metrics: the columns, in order; none are the usual ones.
      first: heading of the names.

    Returns:
      Lines joined by newlines, numbers aligned right, no newline at the end.
    """
    metrics = metrics or usual(rows[0][1] if rows else {})
    body = [[name, *(cell(values.get(m)) for m in metrics)] for name, values in rows]
    return aligned([first, *metrics], body)


def aligned(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table of texts, all columns but the first aligned right."""
    lines = [[text.replace("|", r"\|") for text in line] for line in (head, *body)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]
    return "\n".join(_line(line, widths) for line in [lines[0], rule, *lines[1:]])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1]), *(text.rjust(w) for text, w in others)]
    return f"| {' | '.join(padded)} |"
