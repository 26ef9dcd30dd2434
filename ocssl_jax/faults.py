"""Numbers that are not finite: what stopped a seed, and which seeds go on.

A seed whose loss, gradients or parameters are not finite learns no more, while the
others go on; when none is left the run has broken down. What a seed was worth before
stays in `accuracy.csv`; summary and report leave it out and say so.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ocssl_jax.errors import TrainingError

HINT = "A smaller optimizer.learning_rate often helps."


class Fault(NamedTuple):
    """What stopped a seed."""

    step: int  # the stream batch in which it was seen, from 1
    reason: str  # such as 'loss_ssl is nan'


def fault(step: int, metrics: Mapping[str, Any]) -> Fault | None:
    """What is wrong with a seed's metrics of a stream batch, None if nothing.

    Terms of the loss are named before their sum, and all losses before the norms.
    """
    terms = [name for name in metrics if name.startswith("loss_")]
    for group in (terms, ["loss"], ["gradient_norm"], ["parameter_norm"]):
        values = {name: float(metrics[name]) for name in group}
        bad = [f"{n} is {v}" for n, v in values.items() if not np.isfinite(v)]
        if bad:
            return Fault(step, ", ".join(bad))
    return None


def told(summary: Mapping[str, Any]) -> list[str]:
    """A line about each seed that a `summary.json` leaves out."""
    return [
        f"seed {seed} stopped at stream batch {fault['step']} ({fault['reason']}) and "
        f"is left out"
        for seed, fault in summary.get("stopped", {}).items()
    ]


class Standing:
    """Which seeds of a run go on, and what stopped the others."""

    def __init__(self, seeds: Sequence[int]):
        """All of them go on."""
        self.seeds = tuple(seeds)
        self.stopped: dict[int, Fault] = {}

    def goes(self, seed: int) -> bool:
        """Whether a seed goes on."""
        return seed not in self.stopped

    @property
    def going(self) -> list[int]:
        """The seeds that go on."""
        return [seed for seed in self.seeds if self.goes(seed)]

    @property
    def mask(self) -> list[bool]:
        """Of each seed whether it goes on."""
        return [self.goes(seed) for seed in self.seeds]

    def as_json(self) -> dict[str, Any]:
        """What stopped which seed, as JSON holds it."""
        return {str(seed): fault._asdict() for seed, fault in self.stopped.items()}

    def restore(self, known: Mapping[str, Any]) -> None:
        """Take up what `as_json` gave."""
        self.stopped = {int(seed): Fault(**fault) for seed, fault in known.items()}

    def find(self, first: int, seen: Sequence[Sequence[Any]]) -> dict[int, Fault]:
        """The first fault of each seed that went on until now.

        Args:
          first: stream batches learnt before.
          seen: metrics, [batch][seed].
        """
        found: dict[int, Fault] = {}
        for step, per_seed in enumerate(seen, first + 1):
            for seed, metrics in zip(self.seeds, per_seed, strict=True):
                if seed not in self.stopped and seed not in found:
                    bad = fault(step, metrics)
                    found |= {seed: bad} if bad else {}
        return found

    def stop(self, found: Mapping[int, Fault], *, latest: int | None) -> list[str]:
        """Stop seeds; a line about each.

        Args:
          found: what stops which seed.
          latest: the newest checkpoint.

        Raises:
          TrainingError: if no seed is left.
        """
        self.stopped |= found
        lines = [
            f"{bad.reason} at stream batch {bad.step}, seed {seed}"
            for seed, bad in found.items()
        ]
        if found and not self.going:
            none_left = "" if len(self.seeds) == 1 else "no seed is left; "
            raise TrainingError(
                f"{'; '.join(lines)}; {none_left}the last good checkpoint is "
                f"{latest or 'none'}. {HINT}"
            )
        return [f"{line}: this seed stops, the others go on" for line in lines]

    def shown(self, first: int, seen: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """The metrics with None for what a seed said since it broke."""

        def sound(seed: int, step: int) -> bool:
            return seed not in self.stopped or step < self.stopped[seed].step

        return [
            [
                m if sound(seed, step) else None
                for seed, m in zip(self.seeds, per_seed, strict=True)
            ]
            for step, per_seed in enumerate(seen, first + 1)
        ]
