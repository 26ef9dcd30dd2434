"""Streams whose experiences bring back images of those before them.

Which images come back is a function of the seed, the labels and the experiences, never
of the learner (`clip.memory`), so it is known before the run begins: what a memory of
this kind holds is a part of the order of arrival, and a run resumes without it.
"""

import numpy as np

from ocssl_jax.clip.memory import Kept, after_task, nothing
from ocssl_jax.data.experiences import Benchmark

KINDS = ("class", "domain")


def remembered(
    bench: Benchmark,
    label: np.ndarray,
    domain: np.ndarray | None,
    *,
    budget: int,
    seed: int,
) -> Benchmark:
    """The benchmark with each experience's memory among its training images.

    The memory is that of King et al. 2026: of constant size, equal per class, random,
    reduced after each experience; during an experience all of its images are there, and
    only then do some of them enter the memory [S].

    Args:
      bench: the experiences.
      label: [n] int of all training images, none unlabelled.
      domain: [n] int likewise, or None.
      budget: images kept, at least 0; 0 leaves the benchmark as it is.
      seed: of the choice; one per run seed.

    Raises:
      ValueError: if the experiences are of a kind without a past.
    """
    if not budget:
        return bench
    if bench.kind not in KINDS:
        raise ValueError(
            f"memory must be 0 for a stream of the kind {bench.kind!r}; only "
            f"{' and '.join(KINDS)} have one, not {budget}"
        )
    where = np.zeros(len(label), np.int64) if domain is None else domain
    memory, train = nothing(), []
    for images in bench.train:
        train.append(np.concatenate([images, memory.id]).astype(np.int32))
        ids = images.astype(np.int64)
        new = Kept(ids, label[ids].astype(np.int64), where[ids].astype(np.int64))
        memory = after_task(memory, new, budget=budget, seed=seed)
    return bench._replace(train=tuple(train))
