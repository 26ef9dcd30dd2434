"""Rows of a test that are run with `-m slow` alone."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow(*rows: Any) -> list[Any]:
    """Rows of `pytest.mark.parametrize`, a tuple for several arguments, marked slow."""
    as_tuple = lambda row: row if isinstance(row, tuple) else (row,)
    return [pytest.param(*as_tuple(row), marks=pytest.mark.slow) for row in rows]


def slow_but(usual: Iterable[Any], rows: Iterable[Any]) -> list[Any]:
    """Rows, all of them marked slow but the usual ones."""
    usual = tuple(usual)
    return [row if row in usual else slow(row)[0] for row in rows]
