"""Batches of a pool with shares that make estimates from them unbiased.

The share of a row is such that, over the draws of batches, the sum of share · f over
the rows of a class is the mean of f over that class in the pool (`objectives`).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ocssl_jax.errors import UsageError


class Draw(NamedTuple):
    """The rows of one batch; filled up with rows that do not count."""

    row: np.ndarray  # [n] int32 positions in the pool, 0 where the mask is False
    mask: np.ndarray  # [n] bool
    share: np.ndarray  # [n] float32, 0 where the mask is False


def uniform(rng: np.random.Generator, labels: np.ndarray, batch: int) -> Iterator[Draw]:
    """One epoch: every row of the pool once, in random order.

    A row's share is that of a full batch, n / (n_k batch), in a last, short one too:
    over the epoch each row counts the same.

    Args:
      rng: random numbers.
      labels: [n] int of the pool.
      batch: rows.
    """
    order = rng.permutation(len(labels))
    share = _uniform_share(labels, batch)
    for start in range(0, len(order), batch):
        yield _filled(order[start : start + batch], share, batch)


def class_balanced(
    rng: np.random.Generator, labels: np.ndarray, *, classes: int, rows: int
) -> Draw:
    """Some classes, each as likely as any other, and some rows of each.

    A class with fewer rows gives all of them, none twice: a row beside its copy would
    be no negative. The share is (K / classes) / (rows of its class in the batch), K the
    pool's classes.

    Args:
      rng: random numbers.
      labels: [n] int of the pool.
      classes: in the batch.
      rows: of each class, at most.

    Raises:
      UsageError: if the pool has fewer classes.
    """
    known, sizes = np.unique(labels, return_counts=True)
    if not 1 <= classes <= len(known):
        raise UsageError(
            f"a class-balanced batch needs 1 to {len(known)} classes, those of the "
            f"pool, got {classes}"
        )
    chosen = rng.choice(len(known), classes, replace=False)
    picked, share = [], np.zeros(len(labels), np.float32)
    for k in chosen:
        own = np.flatnonzero(labels == known[k])
        taken = rng.choice(own, min(rows, sizes[k]), replace=False)
        share[taken] = len(known) / classes / len(taken)
        picked.append(taken)
    return _filled(np.concatenate(picked), share, classes * rows)


def _uniform_share(labels: np.ndarray, batch: int) -> np.ndarray:
    _, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return (len(labels) / (sizes[inverse] * batch)).astype(np.float32)


def _filled(rows: np.ndarray, share: np.ndarray, size: int) -> Draw:
    row, own = np.zeros(size, np.int32), np.zeros(size, np.float32)
    row[: len(rows)], own[: len(rows)] = rows, share[rows]
    return Draw(row, np.arange(size) < len(rows), own)
