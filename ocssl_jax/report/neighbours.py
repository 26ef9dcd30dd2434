"""Images and those that lie nearest to them, by the angle between features."""

import numpy as np

from ocssl_jax.report.features import Seen, unit
from ocssl_jax.report.map import short
from ocssl_jax.report.sheet import Group, Sheet

QUERIES, NEAREST = 12, 8
LONGEST = 11  # letters of a class


def nearest(feature: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Rows [q count] nearest to the rows [q], by falling cosine, without themselves."""
    units = unit(feature)
    likeness = units[rows] @ units.T
    likeness[np.arange(len(rows)), rows] = -np.inf
    return np.argsort(-likeness, axis=1, kind="stable")[:, :count]


def asked(label: np.ndarray, count: int) -> np.ndarray:
    """Rows to ask about: the first of each class, or of `count` classes among many."""
    _, first = np.unique(label, return_index=True)
    if len(first) <= count and len(first) > 1:
        return first
    among = first if len(first) > 1 else np.arange(len(label))
    return among[np.linspace(0, len(among) - 1, min(count, len(among))).astype(int)]


def neighbour_sheet(seen: Seen) -> Sheet:
    """A line an image: itself, a gap, and its neighbours."""
    rows = asked(seen.label, QUERIES)
    found = nearest(seen.feature, rows, min(NEAREST, len(seen.label) - 1))
    white = np.full_like(seen.image[:1], 255)
    groups = []
    for row, others in zip(rows, found, strict=True):
        images = np.concatenate([seen.image[[row]], white, seen.image[others]])
        groups.append(Group(title_of(seen, row, others), images))
    caption = f"Nearest neighbours among {len(seen.label)} {seen.noun}"
    return Sheet(caption, groups, "image")


def title_of(seen: Seen, row: int, others: np.ndarray) -> str:
    """The class of an image, and how many neighbours share it, of those that could."""
    label = seen.label[row]
    if label < 0:
        return f"image {row + 1}"
    could = min(len(others), int((seen.label == label).sum()) - 1)
    alike = int((seen.label[others] == label).sum())
    return f"{short(str(seen.class_names[label]), LONGEST)} · {alike} of {could}"
