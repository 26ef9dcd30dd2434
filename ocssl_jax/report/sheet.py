"""What a memory holds, put in order for looking at: groups of images with titles."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Group(NamedTuple):
    """Images that belong together: a centroid, a class, or a whole memory."""

    title: str
    images: np.ndarray  # [k h w c] uint8, c is 1 or 3
    block: str = ""  # neighbours of one block, such as LTM or STM, share a heading


class Sheet(NamedTuple):
    """A memory's content, ready to be drawn."""

    caption: str
    groups: Sequence[Group]
    noun: str  # what a group is, such as 'centroid'


def flat_sheet(
    images: Any, *, name: str, capacity: int, order: Any = None, by: str = "place"
) -> Sheet:
    """The sheet of a memory without structure: one grid.

    Args:
      images: [m h w c] uint8, the rows that are real.
      name: what the memory is called, such as 'reservoir'.
      capacity: rows it can hold.
      order: [m] what to sort by, such as label or image id; None keeps the rows' order.
      by: what `order` is, for the caption.
    """
    images = np.asarray(images)
    if order is not None:
        images = images[np.argsort(np.asarray(order), kind="stable")]
    caption = f"{name}: {occupancy(len(images), capacity)}, ordered by {by}"
    return Sheet(caption, [Group("", images)] if len(images) else [], "memory")


def grouped_sheet(
    images: Any,
    group: Any,
    *,
    name: str,
    noun: str,
    capacity: int,
    blocks: Mapping[str, Sequence[int]],
) -> Sheet:
    """The sheet of a memory of centroids (or of classes): one line of images each.

    Args:
      images: [m h w c] uint8, the rows that are real.
      group: [m] int, the group each image belongs to.
      name: what the memory is called, such as 'CLIMB'.
      noun: what a group is called, such as 'centroid'.
      capacity: images it can hold.
      blocks: group numbers of each block in the order to show them, such as
        `{'LTM': range(61), 'STM': range(61, 161)}`; a group is titled by its block and
        its place there, from 1. Groups without images are left out.
    """
    images, group = np.asarray(images), np.asarray(group)
    groups = []
    for block, numbers in blocks.items():
        for place, number in enumerate(numbers, start=1):
            members = images[group == number]
            title = f"{block} {place} · {count(len(members), 'image')}"
            groups += [Group(title, members, block)] if len(members) else []
    held = f"{occupancy(len(images), capacity)} in {count(len(groups), noun)}"
    return Sheet(f"{name}: {held}", groups, noun)


def occupancy(held: int, capacity: int) -> str:
    """Such as '1,750 of 2,500 images (70 %)'."""
    share = f" ({100 * held / capacity:.0f} %)" if capacity else ""
    return f"{held:,} of {count(capacity, 'image')}{share}"


def count(n: int, noun: str) -> str:
    """Such as '1 image' or '1,750 images'."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
