"""Class orders and class counts of the published streams, number for number.

The reference draws its class orders with PyTorch's `randperm` on the CPU. The same
numbers come from numpy's frozen `RandomState`, whose generator is the same MT19937
seeded the same way.
"""

import numpy as np


def check_seed(seed: int) -> None:
    """Raises ValueError unless 0 <= seed < 2^32, the seeds of MT19937."""
    if not 0 <= seed < 2**32:
        raise ValueError(f"a seed must be in 0 .. 2^32 - 1, not {seed}")


def torch_permutation(n: int, *, seed: int) -> np.ndarray:
    """What `torch.manual_seed(seed); torch.randperm(n)` gives, without PyTorch.

    Args:
      n: length, at least 1.
      seed: in 0 .. 2^32 - 1.

    Returns:
      [n] int64, a permutation of 0 .. n - 1.
    """
    check_seed(seed)
    words = np.random.RandomState(seed).randint(0, 2**32, size=n, dtype=np.uint32)
    order = np.arange(n)
    for i in range(n - 1):
        j = i + int(words[i]) % (n - i)
        order[[i, j]] = order[[j, i]]
    return order


def irregular_sizes(classes: int, *, tasks: int, seed: int) -> tuple[int, ...]:
    """Random numbers of classes per experience, as in the suite's irregular streams.

    Args:
      classes: how many there are.
      tasks: experiences, at most as many as classes.
      seed: in 0 .. 2^32 - 1.

    Returns:
      One size per experience, each at least 1, `classes` in total.

    Raises:
      ValueError: there are more tasks than classes.
    """
    check_seed(seed)
    if not 1 <= tasks <= classes:
        raise ValueError(
            f"{classes} classes make 1 to {classes} irregular tasks, not {tasks}"
        )
    share = np.random.default_rng(seed).random(tasks)
    size = np.floor(classes * (share / share.sum())).astype(int)
    size[size == 0] = 1
    task = 0
    while (rest := classes - int(size.sum())) != 0:
        if rest > 0:
            size[task] += 1
        elif size[task] > 1:
            size[task] -= 1
        task = (task + 1) % tasks
    return tuple(int(s) for s in size)
