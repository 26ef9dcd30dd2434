"""Test images and those that lie nearest to them, by the angle between features."""

import numpy as np

from ocssl_jax.report.features import Seen, unit
from ocssl_jax.report.map import short
from ocssl_jax.report.sheet import Group, Sheet

QUERIES, NEAREST = 12, 8


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
    """A line a test image: itself, a gap, and its neighbours."""
    rows = asked(seen.label, QUERIES)
    found = nearest(seen.feature, rows, min(NEAREST, len(seen.label) - 1))
    white = np.full_like(seen.image[:1], 255)
    labelled = seen.label.min() >= 0
    groups, same = [], 0
    for row, others in zip(rows, found, strict=True):
        alike = int((seen.label[others] == seen.label[row]).sum())
        same += alike
        title = ""
        if labelled:
            name = short(str(seen.class_names[seen.label[row]]))
            title = f"{name} · {alike} of {len(others)}"
        images = np.concatenate([seen.image[[row]], white, seen.image[others]])
        groups.append(Group(title or f"image {row + 1}", images))
    share = f": {100 * same / found.size:.0f} % are of its class" if labelled else ""
    return Sheet(
        f"Nearest neighbours among {len(seen.label)} test images{share}",
        groups,
        "image",
    )
