"""A comparison as tables: in the papers' layout, in full, as Markdown and as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from ocssl_jax import metrics
from ocssl_jax.report.compare import Line, names_of, suffix
from ocssl_jax.report.table import aligned, cell


class Table(NamedTuple):
    """Texts of a table."""

    title: str
    head: list[str]
    body: list[list[str]]


def full(rows: Sequence[Line], names: Sequence[str]) -> Table:
    """Every line of one stream with its seeds, the metrics `names`, and its time.

    Beside a metric stands what was published of it, where configs tell.
    """
    told = [name for name in names if any(row.published(name) for row in rows)]
    columns = {name: [cell(row.values.get(name)) for row in rows] for name in names}
    head = ["strategy", "seeds"]
    body = [[row.label, str(len(row.seeds))] for row in rows]
    for name in names:
        head += [name, "published"] if name in told else [name]
        for line, row, text in zip(body, rows, columns[name], strict=True):
            line += [text, row.published(name) or "-"] if name in told else [text]
    head.append("time (s)")
    for line, row in zip(body, rows, strict=True):
        line.append("-" if row.time_s is None else f"{row.time_s:,.0f}")
    return Table(rows[0].stream.title, head, body)


def by_stream(rows: Sequence[Line]) -> list[list[Line]]:
    """The lines of each stream."""
    return [list(members) for _, members in groupby(rows, key=lambda row: row.stream)]


def published(rows: Sequence[Line], names: Sequence[str]) -> list[Table]:
    """A table a data set, its columns by number of tasks.

    The layout of the papers: a line a strategy, columns such as CA20 FA20 CA50 FA50.
    Only finished runs are in it, and only data sets with several numbers of tasks. If
    not all have as many seeds, a column tells how many.
    """
    found = []
    done = [row for row in rows if row.finished]
    for data, held in groupby(done, key=lambda row: row.stream.data):
        members = list(held)
        tasks = sorted({row.stream.tasks for row in members})
        if len(tasks) > 1:
            head = ["strategy", *(f"{name}{n}" for n in tasks for name in names)]
            lines = _variants(members)
            body = [
                [label]
                + [
                    cell(cells[n].values.get(name) if n in cells else None)
                    for n in tasks
                    for name in names
                ]
                for label, cells in lines
            ]
            if len({len(row.seeds) for row in members}) > 1:
                head.insert(1, "seeds")
                for texts, (_, cells) in zip(body, lines, strict=True):
                    texts.insert(1, _counts(cells))
            found.append(Table(data, head, body))
    return found


def _counts(cells: Mapping[int, Line]) -> str:
    """How many seeds a row has, for each number of tasks where they differ: '3, 5'."""
    counts = [str(len(cells[n].seeds)) for n in sorted(cells)]
    return ", ".join(counts if len(set(counts)) > 1 else counts[:1])


def _variants(members: Sequence[Line]) -> list[tuple[str, dict[int, Line]]]:
    """Label and lines by number of tasks, of the rows of one data set.

    A strategy is one row, even if its settings depend on the number of tasks, as tuned
    ones do; if it was run with several settings each of them has a row.
    """
    found: list[tuple[str, dict[int, Line]]] = []
    names = names_of([row.runs[0] for row in members])
    for name in dict.fromkeys(names):
        own = [row for row, n in zip(members, names, strict=True) if n == name]
        if len({row.stream.tasks for row in own}) == len(own):
            found.append((name, {row.stream.tasks: row for row in own}))
            continue
        settled: dict[str, dict[int, Line]] = {}
        for row in own:
            key = row.runs[0].key("stream.tasks")
            settled.setdefault(key, {})[row.stream.tasks] = row
        firsts = [next(iter(cells.values())).runs[0] for cells in settled.values()]
        for run, cells in zip(firsts, settled.values(), strict=True):
            found.append((name + suffix(run, firsts, ["stream.tasks"]), cells))
    return found


def markdown(
    rows: Sequence[Line], *, probe: str, names: Sequence[str], notes: Sequence[str]
) -> str:
    """The comparison as Markdown: in the papers' layout where it applies, then all."""
    every = [*names, *others(names)]
    parts = []
    for one in (
        *published(rows, names),
        *(full(part, every) for part in by_stream(rows)),
    ):
        parts += [f"**{one.title}**", aligned(one.head, one.body)]
    return "\n\n".join([*parts, caption(probe), *notes])


def others(names: Sequence[str]) -> list[str]:
    """The usual metrics of probes that are not among `names`; classifiers have all."""
    usual = metrics.usual(dict.fromkeys(names))
    return [name for name in usual if name not in names]


def caption(probe: str) -> str:
    """What the numbers are."""
    return (
        f"Percent, {probe} probe, mean ± sample standard deviation over seeds; "
        f"time is that of a run with all its seeds."
    )


def as_csv(rows: Sequence[Line], *, probe: str, names: Sequence[str]) -> str:
    """One row a line, numbers in full, empty where unknown."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    shown = [*names, *others(names)]
    writer.writerow(
        ["label", "strategy", "method", "dataset", "kind", "tasks", "probe"]
        + ["finished", "seeds", "runs"]
        + [f"{name}_{part}" for name in shown for part in ("mean", "std")]
        + ["time_s", "folders"]
    )
    for row in rows:
        run = row.runs[0]
        writer.writerow(
            [row.label, run.get("strategy.name"), run.get("method.name"), *row.stream]
            + [probe, str(row.finished).lower(), " ".join(map(str, row.seeds))]
            + [len(row.runs)]
            + [
                row.values.get(name, {}).get(part)
                for name in shown
                for part in ("mean", "std")
            ]
            + [row.time_s, " ".join(str(run.folder) for run in row.runs)]
        )
    return text.getvalue()
