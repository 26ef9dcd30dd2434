"""What the memory held over the stream, and what CLIMB's took for new.

From the lines of metrics.jsonl, as the losses are: every memory tells of its images,
CLIMB's also of its halves, its centroids, its threshold, and the share of a batch that
lay beyond it.
"""

from pathlib import Path

from ocssl_jax.report import style
from ocssl_jax.report.losses import History, boundaries, curve, series

# Of each panel its label, and its entries of the log in words.
PANELS = (
    (
        "images held",
        {
            "memory_images": "all",
            "ltm_images": "LTM",
            "stm_images": "STM",
            "task_images": "of this task",
        },
    ),
    ("centroids", {"ltm_centroids": "LTM", "stm_centroids": "STM"}),
    ("distance", {"threshold": "threshold"}),
    ("share new", {"novelty": "beyond it"}),
)
COLOURS = {
    "all": style.INK,
    "LTM": style.COLOURS[0],
    "STM": style.COLOURS[1],
    "of this task": style.COLOURS[4],
    "threshold": style.COLOURS[2],
    "beyond it": style.COLOURS[3],
}


def told(history: History) -> list[tuple[str, dict[str, str]]]:
    """The panels that the log tells of, each with the entries that are there."""
    known = lambda names: {n: w for n, w in names.items() if len(series(history, n)[0])}
    return [(title, found) for title, names in PANELS if (found := known(names))]


def held_picture(path: Path, *, history: History) -> None:
    """Draw what the memory held against stream batches, a panel a kind of number.

    Args:
      path: file to write, a PNG.
      history: lines of metrics.jsonl, of which one at least tells of a memory.
    """
    found = told(history)
    heights = [1.6 if i == 0 else 1.0 for i in range(len(found))]
    with style.figure(path, width=7.5, height=1.2 + 1.2 * sum(heights)) as figure:
        panels = figure.subplots(
            len(found), 1, sharex=True, squeeze=False, height_ratios=heights
        )[:, 0]
        for axes, (title, names) in zip(panels, found, strict=True):
            for name, words in names.items():
                curve(axes, *series(history, name), words, COLOURS[words])
            axes.set_ylabel(title)
            axes.set_ylim(bottom=0)
            axes.locator_params(axis="y", nbins=4)
            boundaries(axes, history, named=axes is panels[0])
            axes.margins(x=0.01)
            style.legend_right(axes)
        panels[0].set_title("The memory over the stream")
        panels[-1].set_xlabel("stream batches learnt")
        figure.align_ylabels(panels)
