"""Settings that are numbers to one learner and arrays to a program of several.

`siblings.py` makes such programs; factories check what they are given with `holds`.
"""

from typing import Any

import jax

Number = float | jax.Array  # plain, or [] float32 within a program


def holds(condition: Any) -> bool:
    """Whether a condition on settings holds.

    Within a program that takes the setting as an array nobody can tell: it is made of
    settings that have been looked at before.
    """
    try:
        return bool(condition)
    except jax.errors.TracerBoolConversionError:
        return True
