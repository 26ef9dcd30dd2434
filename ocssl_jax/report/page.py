"""The report as one HTML file that holds all it needs: pictures, style, numbers."""

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ocssl_jax.faults import told
from ocssl_jax.metrics import usual
from ocssl_jax.report.style import DPI
from ocssl_jax.report.table import NAMES, cell
from ocssl_jax.report.timing import timing

MEANING = {
    "accuracy": "average accuracy: mean over tasks, after the last experience",
    "FA": "final accuracy: all test samples, after the last experience",
    "CA": "continual accuracy: all test samples, mean over experiences",
    "CA_seen": "continual accuracy on the tasks seen so far, mean over experiences",
    "forgetting": "best accuracy on a task since it was learnt, minus the final one",
}
NOT_PROBED = (
    "This run was not probed: no number tells how good its features are. That takes "
    "labels, in class folders or of another data set (probe.dataset)."
)
FOLDED = "<details><summary>Every setting of this run</summary><pre>{}</pre></details>"

STYLE = """
:root { color-scheme: light dark; --ink: #222; --muted: #666; --line: #ddd;
  --page: #fafafa; --card: #fff; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e4e4; --muted: #9a9a9a;
  --line: #3a3a3a; --page: #17181a; --card: #212326; --accent: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .8rem; }
.muted, figcaption { color: var(--muted); font-size: .9rem; }
.cards { display: grid; gap: .8rem; margin-top: 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); }
.card, figure, details { background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; padding: .9rem 1rem; }
.card b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.card span { color: var(--accent); font-weight: 600; }
.card p { margin: .2rem 0 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .8rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal;
  min-width: 8rem; position: sticky; left: 0; background: var(--page); }
thead th { color: var(--muted); font-weight: 600; }
tr.own td { font-weight: 600; }
td.share { width: 30%; min-width: 4rem; padding: 0 .3rem; }
td.share i { display: block; height: .7rem; background: var(--accent);
  border-radius: .2rem; }
.card em { font-style: normal; }
.card .beside { display: flex; justify-content: space-between; font-size: .9rem; }
figure { margin: 0 0 1rem; }
.scroll + figure { margin-top: 1rem; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto;
  background: #fff; border-radius: .25rem; padding: .4rem; }
figcaption { margin-top: .6rem; }
pre { overflow-x: auto; font-size: .85rem; }
summary { cursor: pointer; }
@media (max-width: 40rem) {
  th, td { padding: .4rem .5rem; }
  figure { padding: .4rem; } }
"""


def page(
    *,
    summary: Mapping[str, Any],
    config: Mapping[str, Any],
    pictures: Mapping[str, Sequence[tuple[Path, str]]],
) -> str:
    """The whole page.

    Args:
      summary: content of `summary.json`.
      config: content of `config.json`.
      pictures: by heading, pairs of a PNG file, which is embedded, and its caption.
    """
    words = [_own(summary), *(summary.get(part) for part in ("method", "dataset"))]
    settings = json.dumps(config, indent=2, default=str, ensure_ascii=False)
    lost = "".join(f"<p>{escape(line)}</p>" for line in told(summary))
    body = [
        _cards(summary),
        section("Seeds left out", lost) if lost else "",
        _results(summary),
        *(
            section(heading, "\n".join(picture(*pair) for pair in pairs))
            for heading, pairs in pictures.items()
        ),
        section("Time", timing(summary)),
        section("Config", FOLDED.format(escape(settings))),
    ]
    title = " · ".join(str(word) for word in words if word)
    return document(title=title, subtitle=_subtitle(summary), body="\n".join(body))


def document(*, title: str, subtitle: str, body: str) -> str:
    """A whole page in the reports' style; `body` is HTML, the others are text."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
<p class="muted">{escape(subtitle)}</p>
{body}
</main>
</body>
</html>
"""


def _subtitle(summary: Mapping[str, Any]) -> str:
    """Seeds, length and fidelity of the run in one line."""
    seeds = summary.get("seeds") or []
    parts = ["seeds " + ", ".join(map(str, seeds)) if len(seeds) > 1 else ""]
    parts += [f"seed {seeds[0]}"] if len(seeds) == 1 else []
    if summary.get("steps") is not None:
        parts.append(f"{summary['steps']:,} stream batches")
    if summary.get("fidelity"):
        parts.append(f"fidelity: {summary['fidelity']}")
    return " · ".join(part for part in parts if part)


def _cards(summary: Mapping[str, Any]) -> str:
    values = summary.get("metrics") or {}
    cards = [
        f'<div class="card"><span>{escape(name)}</span><b>{cell(values[name])}</b>'
        f'<p class="muted">{escape(MEANING[name])} (%)</p>'
        f"{_beside(summary, name)}</div>"
        for name in usual(values)
        if name in values
    ]
    return f'<div class="cards">{"".join(cards)}</div>' if cards else ""


def _beside(summary: Mapping[str, Any], name: str) -> str:
    """What the baselines came to in the same metric, as a reader asks at once."""
    known = (summary.get("baselines") or {}).items()
    means = [
        (NAMES.get(one, one), (told.get(name) or {}).get("mean")) for one, told in known
    ]
    return "".join(
        f'<p class="beside"><em>{escape(one)}</em> {mean:.2f}</p>'
        for one, mean in means
        if mean is not None
    )


def _own(summary: Mapping[str, Any]) -> str:
    """What the run is called; older ones by their strategy."""
    return str(summary.get("learner") or summary.get("strategy") or "this run")


def _results(summary: Mapping[str, Any]) -> str:
    """The run, its other probes and its baselines, one row each."""
    if not summary.get("metrics"):
        return section("Results", f'<p class="muted">{NOT_PROBED}</p>')
    own, first = _own(summary), summary.get("probe")
    others = {k: v for k, v in (summary.get("probes") or {}).items() if k != first}
    baselines = summary.get("baselines") or {}
    rows = [(own, summary["metrics"], "own")]
    rows += [(f"{own}, {name} probe", values, "") for name, values in others.items()]
    rows += [(NAMES.get(name, name), values, "") for name, values in baselines.items()]
    names = usual(summary["metrics"])
    cells = [(name, *(cell(values.get(m)) for m in names)) for name, values, _ in rows]
    note = "percent, mean ± sample standard deviation over seeds"
    note = escape(f"{first} probe, {note}" if first else note)
    shown = tabulated(["strategy", *names], cells, kinds=[kind for *_, kind in rows])
    return section("Results", f'{shown}<p class="muted">{note}</p>')


def tabulated(
    head: Sequence[str],
    body: Sequence[Sequence[str]],
    kinds: Sequence[str] | None = None,
    links: Sequence[str] | None = None,
) -> str:
    """A table of texts, scrolling where it is too wide.

    Args:
      head: of each column.
      body: of each row.
      kinds: class of each row.
      links: where the first cell of each row leads to, '' for nowhere.
    """
    cells = lambda tag, row: "".join(f"<{tag}>{t}</{tag}>" for t in row)
    texts = [[escape(text) for text in row] for row in body]
    for row, link in zip(texts, links or [], strict=bool(links)):
        if link:
            row[0] = f'<a href="{escape(link)}">{row[0]}</a>'
    rows = "\n".join(
        f'<tr class="{kind}">{cells("td", row)}</tr>'
        for row, kind in zip(texts, kinds or [""] * len(texts), strict=True)
    )
    top = cells("th", map(escape, head))
    return (
        f'<div class="scroll"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def picture(path: Path, caption: str) -> str:
    """A PNG file, embedded, with its caption below."""
    content = path.read_bytes()
    data = base64.b64encode(content).decode("ascii")
    text = escape(caption)
    # Bytes 16 to 20 of a PNG are its width; shown at 96 dots an inch, type is of one
    # size in all pictures.
    width = int.from_bytes(content[16:20], "big") * 96 // DPI
    least = width * 11 // 20  # pixels below which its type cannot be read
    return (
        f'<figure><div class="scroll"><img alt="{text}" width="{width}" '
        f'style="min-width:{least}px" src="data:image/png;base64,{data}"></div>'
        f"<figcaption>{text}</figcaption></figure>"
    )


def section(title: str, body: str) -> str:
    """A part of the page with a heading; nothing where `body` is empty."""
    return f"<section><h2>{title}</h2>\n{body}\n</section>" if body else ""
