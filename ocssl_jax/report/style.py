"""The common look of all pictures: palette, type and how a figure becomes a file.

Figures are made without pyplot, so drawing a report changes no global state of the
program that asks for it, needs no display and gives the same bytes each time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Okabe and Ito's palette, distinguishable with every common colour vision deficiency.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, MUTED, FAINT = "#222222", "#6b6b6b", "#dddddd"
DASHES = ("--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)))
DPI = 150

LOOK = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "white",
    "figure.facecolor": "white",
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


@contextmanager
def figure(path: Path, *, width: float, height: float) -> Iterator[Any]:
    """Yield a figure of `width` x `height` inches and write it to `path` at the end."""
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # 'default' first: a user's own style file must not change a report.
    with style.context(["default", LOOK]):
        drawn = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        FigureCanvasAgg(drawn)
        yield drawn
        drawn.savefig(path, dpi=DPI, metadata={"Software": None})


def whole_numbers(axis: Any) -> None:
    """Ticks of an axis that counts things."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, nbins=12, min_n_ticks=1))


def legend_right(axes: Any) -> None:
    """A legend beside the axes, where it hides no line."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
