"""A map of features in two dimensions: principal components, and t-SNE.

The first shows how far apart things are but only along two directions; the second
(van der Maaten & Hinton 2008) shows who is near whom, while sizes of groups and the
distances between them mean nothing.
"""

from pathlib import Path
from typing import Any

import numpy as np

from ocssl_jax.report import style
from ocssl_jax.report.features import Seen, unit

PERPLEXITY = 30.0  # about how many neighbours count
STEPS = 500
MOST_CLASSES = 10  # with more, colours stand for tasks
THUMB, PANEL = 13.0, 290.0  # points: side of an image shown, and of a map, about
LONGEST = 18  # letters of a class in the legend


def principal(feature: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates [n 2] along the two principal components, and their shares [2].

    The shares are of the variance. Signs are such that the largest coordinate of each
    is positive; components that there are not are 0.
    """
    centred = feature.astype(np.float64) - feature.mean(axis=0, dtype=np.float64)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    found, shares = np.zeros((len(feature), 2)), np.zeros(2)
    count = min(2, len(s))
    found[:, :count] = u[:, :count] * s[:count]
    if (s > 0).any():
        shares[:count] = s[:count] ** 2 / np.sum(s**2)
    largest = found[np.abs(found).argmax(axis=0), np.arange(2)]
    return found * np.where(largest < 0, -1.0, 1.0), shares


def neighbourly(feature: np.ndarray) -> np.ndarray:
    """Coordinates [n 2] by t-SNE of features by their angles; the same each time."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    # Perplexity must be less than the number of points.
    perplexity = min(PERPLEXITY, (len(feature) - 1) / 3)
    first = principal(unit(feature))[0]
    spread = first[:, 0].std()
    start = 1e-4 * first / spread if spread else "random"  # as scikit-learn scales it
    made = TSNE(2, perplexity=perplexity, init=start, max_iter=STEPS, random_state=0)
    with threadpool_limits(1):  # sums of threads come in another order each time
        return made.fit_transform(unit(feature))


def map_picture(path: Path, *, seen: Seen) -> None:
    """Draw both maps, coloured by class, or by task where classes are many.

    Of images without classes some are shown themselves.

    Args:
      path: file to write, a PNG.
      seen: what to draw.
    """
    components, shares = principal(seen.feature)
    panels = {
        f"principal components, {100 * shares.sum():.0f} % of the variance": components,
        "t-SNE": neighbourly(seen.feature),
    }
    with style.figure(path, width=9.0, height=4.6) as figure:
        for axes, (title, xy) in zip(
            figure.subplots(1, 2), panels.items(), strict=True
        ):
            for name, rows, colour in groups(seen):
                look = {"s": 14, "color": colour, "alpha": 0.8, "linewidths": 0}
                axes.scatter(*xy[rows].T, label=name, **look)
            if seen.label.max() < 0:  # no colour tells what a dot is
                _pictured(axes, xy, seen.image)
            axes.set_title(title)
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
        handles, names = axes.get_legend_handles_labels()
        columns = min(len(names), 5)
        look = {"loc": "outside lower center", "ncols": columns, "markerscale": 1.8}
        if len(names) > 1:
            figure.legend(handles, names, handletextpad=0.2, **look)


def groups(seen: Seen) -> list[tuple[str, np.ndarray, Any]]:
    """Name, rows and colour of what is drawn alike."""
    import matplotlib

    kinds, by = np.unique(seen.label), seen.label
    named = lambda kind: short(str(seen.class_names[kind]), LONGEST)
    if len(kinds) > MOST_CLASSES or kinds.min() < 0:
        kinds, by = np.unique(seen.task), seen.task
        named = lambda kind: f"task {kind + 1}"
    few = len(kinds) <= MOST_CLASSES
    shades = matplotlib.colormaps["tab10" if few else "viridis"]
    place = lambda i: i if few else i / (len(kinds) - 1)
    return [(named(k), by == k, shades(place(i))) for i, k in enumerate(kinds)]


def apart(xy: np.ndarray, least: float) -> list[int]:
    """Rows of points [n 2] that lie `least` from each other, in shares of the width."""
    width = np.maximum(np.ptp(xy, axis=0), 1e-12)
    found: list[int] = []
    for row, point in enumerate(xy):
        distance = np.abs((xy[found] - point) / width).max(axis=1)
        if (distance >= least).all():
            found.append(row)
    return found


def _pictured(axes: Any, xy: np.ndarray, images: np.ndarray) -> None:
    """Put as many images [n h w c] at their points as do not cover each other."""
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    for row in apart(xy, THUMB / PANEL):
        rgb = np.broadcast_to(images[row], (*images[row].shape[:2], 3))
        small = OffsetImage(rgb, zoom=THUMB / max(rgb.shape[:2]))
        box = AnnotationBbox(small, xy[row], frameon=False, pad=0)
        box.set_in_layout(False)
        axes.add_artist(box)


def short(name: str, letters: int) -> str:
    """At most so many letters of a name."""
    return name if len(name) <= letters else name[: letters - 1] + "…"
