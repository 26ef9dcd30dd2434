"""Writes one_cycle.npz: what torch's OneCycleLR gives at every step of short cycles.

  python tests/golden/one_cycle.py        needs torch, which no test does

Learning rate and momentum for total_steps = 2 .. 100, max_lr 1, div_factor 10,
momentum between 0.85 and 0.95: arrays [99 100] for each pct_start, NaN past the end
and where torch divides by 0.
"""

from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

STEPS = range(2, 101)


def cycle(steps, pct_start):
    """Learning rates and momenta, both [steps]."""
    weight = torch.nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD([weight], lr=1.0, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        sgd,
        max_lr=1.0,
        total_steps=steps,
        pct_start=pct_start,
        div_factor=10,
        base_momentum=0.85,
        max_momentum=0.95,
    )
    seen = []
    for step in range(steps):
        group = sgd.param_groups[0]
        seen.append((group["lr"], group["momentum"]))
        sgd.step()
        if step + 1 < steps:
            schedule.step()
    return np.array(seen).T


def table(pct_start):
    """Both tables, [2 99 100] float32."""
    found = np.full((2, len(STEPS), STEPS[-1]), np.nan, np.float32)
    for row, steps in enumerate(STEPS):
        with suppress(ZeroDivisionError):
            found[:, row, :steps] = cycle(steps, pct_start)
    return found


if __name__ == "__main__":
    tables = {"half": table(0.5), "quarter": table(0.25)}
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **tables)
