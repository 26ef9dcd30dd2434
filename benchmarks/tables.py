"""Results: rows of seconds as a table to read and as JSON to keep."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.timing import Spread, spread
from ocssl_jax.report.table import aligned


class Row(NamedTuple):
    """One thing that was measured, and its counterpart where there is one."""

    name: str
    ours: Sequence[float]  # seconds of each run
    torch: Sequence[float] = ()
    more: Mapping[str, Any] | None = None  # further columns


def entry(row: Row) -> dict[str, Any]:
    """The row as JSON: medians, `ratio` = ours / torch, spreads and further keys."""
    ours = spread(row.ours)
    theirs = spread(row.torch) if row.torch else None
    return {
        "name": row.name,
        "ours_s": ours.median,
        "torch_s": theirs.median if theirs else None,
        "ratio": ours.median / theirs.median if theirs else None,
        "ours_spread_s": [ours.low, ours.high],
        "torch_spread_s": [theirs.low, theirs.high] if theirs else None,
        "repeats": len(row.ours),
        **(row.more or {}),
    }


def milliseconds(seconds: Spread) -> str:
    """Median and range, with three digits or more of the median."""
    values = [1e3 * s for s in seconds]
    places = 0 if abs(values[0]) >= 100 else 2 if abs(values[0]) >= 1 else 4
    median, low, high = (f"{v:.{places}f}" for v in values)
    return median if low == high else f"{median} [{low} .. {high}]"


def written(value: Any) -> str:
    """A further column's entry."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def text(rows: Sequence[Row]) -> str:
    """The table for a terminal, in milliseconds; columns that nobody fills are left."""
    filled = [k for row in rows for k, v in (row.more or {}).items() if v is not None]
    keys = dict.fromkeys(filled)
    compared = any(row.torch for row in rows)
    head = ["", "ours, ms", *(["torch, ms", "ours / torch"] if compared else [])]
    head += [key.replace("_", " ") for key in keys]
    body = []
    for row in rows:
        line = [row.name, milliseconds(spread(row.ours))]
        if compared:
            theirs = milliseconds(spread(row.torch)) if row.torch else "-"
            ratio = entry(row)["ratio"]
            line += [theirs, "-" if ratio is None else f"{ratio:.2f}"]
        more = row.more or {}
        body.append(line + [written(more.get(key)) for key in keys])
    return aligned(head, body)


def write(path: Path, machine: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Write `{"machine": ..., "rows": [...]}`."""
    content = {"machine": dict(machine), "rows": [entry(row) for row in rows]}
    path.write_text(json.dumps(content, indent=1) + "\n")
