"""A memory of constant size with equally many rows of each class, chosen at random.

That the size is constant, the rows random, their number equal for each class, and that
the memory is reduced after each task are stated [S]; rounding and ties are ours [R].

Every row of the run has a random priority, a hash of the seed and its id, and of each
group the rows of the smallest priorities stay. So what is kept is a uniform sample of
everything the group ever had, each memory lies within the one before and the rows that
came since, and nothing is drawn: a run that resumes makes the same memory. Arrays are
NumPy's on the host; they hold ids, and images stay where they are.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ocssl_jax.errors import UsageError

# The multipliers and shifts of SplitMix64's finaliser (Steele et al. 2014).
STEPS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
LAST = 31
GOLDEN = 0x9E3779B97F4A7C15


class Kept(NamedTuple):
    """The rows of a memory, by ascending id."""

    id: np.ndarray  # [m] int64
    label: np.ndarray  # [m] int64
    domain: np.ndarray  # [m] int64


def nothing() -> Kept:
    """The memory before the first task."""
    return Kept(*(np.zeros(0, np.int64) for _ in Kept._fields))


def priorities(seed: int, ids: np.ndarray) -> np.ndarray:
    """Random numbers [m] uint64 for ids [m]; no two ids of one seed have the same.

    SplitMix64's finaliser of the id and of a start that depends on the seed: a
    bijection of 64-bit numbers.
    """
    start = _mixed(np.array([seed], np.uint64) * np.uint64(GOLDEN))
    return _mixed(ids.astype(np.uint64) * np.uint64(GOLDEN) + start)


def _mixed(x: np.ndarray) -> np.ndarray:
    for shift, factor in STEPS:
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(LAST))


def quotas(
    available: np.ndarray | Sequence[int], total: int, order: np.ndarray
) -> np.ndarray:
    """How many rows each group keeps, [g].

    As equal as the groups' sizes allow: two quotas differ by more than 1 only if the
    smaller group is kept whole. Rows that are left over go one each to the groups
    that come first in `order`.

    Args:
      available: [g] rows that each group has.
      total: rows kept of all groups; all of them if they are fewer.
      order: [g] numbers without ties, smallest first.
    """
    sizes = np.asarray(available, np.int64)
    level = _level(sizes, total)
    quota = np.minimum(sizes, level)
    open_ = np.flatnonzero(sizes > level)
    first = open_[np.argsort(order[open_])][: max(total - int(quota.sum()), 0)]
    quota[first] += 1
    return quota


def _level(sizes: np.ndarray, total: int) -> int:
    """The largest number of rows that every group with as many can keep."""
    low, high = 0, int(sizes.max(initial=0))
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(sizes, middle).sum() <= total:
            low = middle
        else:
            high = middle - 1
    return low


def after_task(memory: Kept, new: Kept, *, budget: int, seed: int) -> Kept:
    """The memory once a task has been learnt.

    Classes share the budget equally; a class's rows are shared equally by the domains
    it was seen in, if there are several.

    Args:
      memory: after the task before.
      new: every training row of the task.
      budget: rows in all, at least 0; fewer than classes keep one row of some.
      seed: of the priorities; the same in every task of a run.

    Raises:
      UsageError: if the budget is negative, or an id comes twice.
    """
    if budget < 0:
        raise UsageError(f"a memory's budget must be at least 0, got {budget}")
    rows = Kept(*(np.concatenate(pair) for pair in zip(memory, new, strict=True)))
    if len(np.unique(rows.id)) < len(rows.id):
        raise UsageError("an image of the task is in the memory already, or came twice")
    rank = priorities(seed, rows.id)
    classes, sizes = np.unique(rows.label, return_counts=True)
    chosen = []
    for label, quota in zip(
        classes, quotas(sizes, budget, _order(seed, classes)), strict=True
    ):
        chosen += _of_class(rows, rank, label, quota, seed)
    kept = np.array(chosen, np.int64)
    kept = kept[np.argsort(rows.id[kept])]
    return Kept(*(field[kept] for field in rows))


def _of_class(
    rows: Kept, rank: np.ndarray, label: int, quota: int, seed: int
) -> list[int]:
    """Positions of the rows of a class that stay."""
    own = np.flatnonzero(rows.label == label)
    own = own[np.argsort(rank[own])]
    domains, sizes = np.unique(rows.domain[own], return_counts=True)
    # Another order for each class, so that no domain has all that is left over.
    shares = quotas(sizes, quota, _order(seed, domains, salt=int(label) + 1))
    return [
        int(row)
        for domain, share in zip(domains, shares, strict=True)
        for row in own[rows.domain[own] == domain][:share]
    ]


def _order(seed: int, groups: np.ndarray, *, salt: int = 0) -> np.ndarray:
    """Random numbers of groups that have nothing to do with those of their rows."""
    return priorities(seed, groups + (1 + salt) * 2**32)
