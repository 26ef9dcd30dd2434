"""Where a run's time went, as a part of its page."""

from collections.abc import Mapping
from html import escape
from typing import Any

PARTS = {"train_s": "learning", "probe_s": "probing", "compile_s": "compiling"}
REST = "reading, saving"
RATES = {
    "stream_images_per_s": "images of the stream",
    "train_images_per_s": "images trained on",
}
NOTE = (
    "Images of all seeds. Those trained on are also the replayed ones, in each pass "
    "and each view. What a baseline took is in its own folder."
)
NO_SHARE = "<td></td><td></td>"


def timing(summary: Mapping[str, Any]) -> str:
    """Seconds of each part, their shares, and images a second; '' if none is known."""
    time = dict(summary.get("time") or {})
    total = time.pop("total_s", None)
    rows = [(PARTS.get(name, name.removesuffix("_s")), s) for name, s in time.items()]
    if total is not None:
        rows.append((REST, max(0.0, total - sum(time.values()))))
    lines = [_line(name, f"{s:,.1f} s", _share(s, total)) for name, s in rows]
    lines += [] if total is None else [_line("in all", f"{total:,.1f} s")]
    for name, rate in (summary.get("throughput") or {}).items():
        lines.append(_line(RATES.get(name, name), f"{rate:,.1f} images/s"))
    body = "".join(lines)
    table = f'<div class="scroll"><table><tbody>{body}</tbody></table></div>'
    return f'{table}<p class="muted">{NOTE}</p>' if lines else ""


def _share(seconds: float, total: float | None) -> str:
    """Two cells: the share of the whole in percent, and as a bar."""
    if not total:
        return NO_SHARE
    percent = f"{100 * seconds / total:.0f}"
    bar = f'<i style="width: {percent}%"></i>'
    return f'<td>{percent} %</td><td class="share">{bar}</td>'


def _line(name: str, text: str, share: str = NO_SHARE) -> str:
    """A row of the table; `share` is HTML, two cells."""
    return f"<tr><td>{escape(name)}</td><td>{escape(text)}</td>{share}</tr>"
