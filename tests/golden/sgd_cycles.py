"""Writes sgd_cycles.npz: where torch's SGD goes along three of its OneCycleLR cycles.

  python tests/golden/sgd_cycles.py       needs torch, which no test does

One optimizer with weight decay, its momentum buffer carried on, a new scheduler every
ten updates; least squares on random data. `x` [20 3], `y` [20 2], `start` [3 2] and
`path` [30 3 2], the weights after each update.
"""

from pathlib import Path

import numpy as np
import torch

CYCLES, STEPS = 3, 10


def path(x, y, start):
    """The weights after every update."""
    x, y = torch.tensor(x), torch.tensor(y)
    weight = torch.nn.Parameter(torch.tensor(start))
    sgd = torch.optim.SGD([weight], lr=1.0, momentum=0.9, weight_decay=0.01)
    seen = []
    for _ in range(CYCLES):
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            sgd, max_lr=0.1, total_steps=STEPS, pct_start=0.5, div_factor=10
        )
        for step in range(STEPS):
            sgd.zero_grad()
            ((x @ weight - y) ** 2).mean().backward()
            sgd.step()
            seen.append(weight.detach().numpy().copy())
            if step + 1 < STEPS:
                schedule.step()
    return np.stack(seen)


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    x, y, start = draw(20, 3), draw(20, 2), draw(3, 2)
    arrays = {"x": x, "y": y, "start": start, "path": path(x, y, start)}
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **arrays)
