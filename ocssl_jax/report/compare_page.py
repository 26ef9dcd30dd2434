"""A comparison as a folder: Markdown, CSV, and a page with tables and curves."""

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from ocssl_jax import workdir
from ocssl_jax.errors import UsageError
from ocssl_jax.report.compare import Line
from ocssl_jax.report.compare_picture import comparison_picture, courses
from ocssl_jax.report.compare_tables import (
    as_csv,
    by_stream,
    caption,
    full,
    markdown,
    others,
    published,
)
from ocssl_jax.report.compute import Spent, compute_picture, compute_table
from ocssl_jax.report.page import document, picture, section, tabulated
from ocssl_jax.report.runs import Found
from ocssl_jax.report.sheet import count
from ocssl_jax.report.table import aligned
from ocssl_jax.report.timing import PARTS

CURVES = (
    "Test accuracy over all classes, of classifiers over those met so far; bands are ± "
    "one sample std over seeds."
)


def write_comparison(
    out_dir: Path,
    rows: Sequence[Line],
    *,
    probe: str,
    names: Sequence[str],
    notes: Sequence[str],
    costs: Sequence[Spent] = (),
) -> Path:
    """Write `report.md`, `report.csv`, `index.html` and its pictures.

    Args:
      out_dir: folder to write to; made if absent.
      rows: lines of the comparison.
      probe: the probe whose accuracies are shown.
      names: metrics that come first, and in the papers' layout.
      notes: remarks for the reader, one line each.
      costs: what the lines computed, where that is to be shown.

    Returns:
      The path of `index.html`.

    Raises:
      UsageError: if the folder cannot be written to.
    """
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--out {out_dir} cannot be written to ({error.strerror})"
        ) from error
    text = markdown(rows, probe=probe, names=names, notes=notes)
    if costs:
        one = compute_table(costs, names)
        text += f"\n\n**{one.title}**\n\n{aligned(one.head, one.body)}"
    workdir.write(out_dir / "report.md", text + "\n")
    workdir.write(out_dir / "report.csv", as_csv(rows, probe=probe, names=names))
    parts = [
        section(escape(one.title), tabulated(one.head, one.body))
        for one in published(rows, names)
    ]
    parts += [_stream(out_dir, part, probe, names) for part in by_stream(rows)]
    parts.append(_compute(out_dir, costs, names) if costs else "")
    remarks = "".join(
        f'<p class="muted">{escape(note)}</p>' for note in (caption(probe), *notes)
    )
    body = [remarks, *parts, section("Runs", _runs(rows, out_dir))]
    page = document(
        title="Comparison of "
        + " and ".join(dict.fromkeys(r.stream.data for r in rows)),
        subtitle=count(sum(len(row.runs) for row in rows), "run"),
        body="\n".join(body),
    )
    workdir.write(out_dir / "index.html", page)
    return out_dir / "index.html"


def _stream(
    out_dir: Path, rows: Sequence[Line], probe: str, names: Sequence[str]
) -> str:
    """The section of one stream: its table, and its curves where it was probed."""
    one = full(rows, [*names, *others(names)])
    body = tabulated(one.head, one.body)
    drawn = [row for row in rows if courses(row, probe)]
    if drawn:
        path = out_dir / f"{'-'.join(map(str, rows[0].stream))}.png"
        comparison_picture(path, rows=drawn, probe=probe)
        body += picture(path, CURVES)
    return section(escape(one.title), body)


def _compute(out_dir: Path, costs: Sequence[Spent], names: Sequence[str]) -> str:
    """The section that orders the lines by what they computed."""
    one = compute_table(costs, names)
    body = tabulated(one.head, one.body)
    metric = "FA" if "FA" in names else names[0]
    drawn = [c for c in costs if (c.line.values.get(metric) or {}).get("mean")]
    if drawn:
        path = out_dir / "compute.png"
        compute_picture(path, drawn, metric=metric)
        body += picture(path, "Accuracy against operations; bars are ± one sample std.")
    return section(escape(one.title), body)


def _runs(rows: Sequence[Line], out_dir: Path) -> str:
    """What each line was read from: its own report, and where its time went."""
    pairs = [(run, row) for row in rows for run in row.runs]
    body = [
        (str(run.folder), row.label, ", ".join(map(str, run.seeds)), *_seconds(run))
        for run, row in pairs
    ]
    head = ["folder", "strategy", "seeds", *(f"{part} (s)" for part in PARTS.values())]
    links = [_report_of(run.folder, out_dir) for run, _ in pairs]
    return tabulated([*head, "in all (s)"], body, links=links)


def _seconds(run: Found) -> list[str]:
    """Of each of `PARTS`, and of the whole."""
    time = (run.summary or {}).get("time") or {}
    known = [time.get(name) for name in (*PARTS, "total_s")]
    return ["-" if seconds is None else f"{seconds:,.0f}" for seconds in known]


def _report_of(folder: Path, out_dir: Path) -> str:
    """The address of a run's own page on that of the comparison; '' if it has none."""
    page = folder / "report" / "index.html"
    if not page.exists():
        return ""
    return quote(Path(os.path.relpath(page.resolve(), out_dir.resolve())).as_posix())
