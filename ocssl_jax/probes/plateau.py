"""The plateau rule of the linear probe: divide the rate when validation stops rising.

A pure function of accuracies, kept apart from training so that it can be read and
tested as a table.
"""

from typing import NamedTuple


class Plateau(NamedTuple):
    """Where the rule stands between two epochs."""

    learning_rate: float
    left: int  # epochs without improvement that are still allowed at this rate
    best: float = float("-inf")  # best validation accuracy so far


class Verdict(NamedTuple):
    """What an epoch's accuracy means for the weights and for going on."""

    state: Plateau
    improved: bool  # remember these weights
    restore: bool  # continue from the best weights, at the new rate
    stop: bool  # the new rate is below the smallest one


def judge(
    state: Plateau,
    accuracy: float,
    *,
    patience: int,
    factor: float,
    min_learning_rate: float,
) -> Verdict:
    """Judge one epoch by its validation `accuracy`; only a strict rise counts.

    Args:
      state: where the rule stood before the epoch.
      accuracy: of the weights after the epoch; the first epoch always is a rise.
      patience: epochs without a rise before the rate is divided.
      factor: what the rate is divided by.
      min_learning_rate: training stops once the rate falls below it.
    """
    if accuracy > state.best:
        state = Plateau(state.learning_rate, patience, accuracy)
        return Verdict(state, improved=True, restore=False, stop=False)
    if state.left > 1:
        state = state._replace(left=state.left - 1)
        return Verdict(state, improved=False, restore=False, stop=False)
    rate = state.learning_rate / factor
    state = Plateau(rate, patience, state.best)
    return Verdict(state, improved=False, restore=True, stop=rate < min_learning_rate)
