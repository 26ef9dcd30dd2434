"""Streams whose batches hold equally many images of each of a few classes.

Group DRO weighs classes, so that its estimates vary most where a batch misses some
(`clip.sampler`). The batches stay as many as they were, and in their experiences.
"""

import numpy as np

from ocssl_jax.clip.sampler import class_balanced
from ocssl_jax.data.arrivals import Schedule

BALANCED = 4  # in the seeds of draws, see `arrivals`


def balanced(
    plan: Schedule, label: np.ndarray, *, classes: int, key_seed: int, known: int = 0
) -> Schedule:
    """The schedule with each batch drawn anew from all that arrives in its experience.

    A class is as likely as any other, an image comes as often as its class and its
    fellows allow: some may never arrive. Each batch is drawn by its number alone.

    Args:
      plan: of uniform batches, one epoch after another.
      label: [n] int of all training images, none unlabelled.
      classes: of a batch, which they must divide; fewer where there are fewer. 0 leaves
        the schedule as it is.
      key_seed: of the draws; one per run seed.
      known: so many experiences at the beginning stay as they are.

    Raises:
      ValueError: if the classes do not divide the rows of a batch.
    """
    if not classes:
        return plan
    size = plan.id.shape[1]
    if size % classes:
        raise ValueError(
            f"balanced, the classes of a batch, must divide batch_size {size}, not "
            f"{classes}"
        )
    ids, mask = plan.id.copy(), plan.mask.copy()
    phase = np.cumsum(plan.boundary)
    for number in np.unique(phase[plan.experience >= known]):
        steps = np.flatnonzero((phase == number) & (plan.experience >= known))
        pool = np.unique(plan.id[steps][plan.mask[steps]])
        most = len(np.unique(label[pool]))
        for step in steps:
            draw = class_balanced(
                np.random.default_rng([key_seed, int(step), BALANCED]),
                label[pool],
                classes=min(classes, most),
                rows=size // classes,
            )
            count = int(draw.mask.sum())
            mask[step] = np.arange(size) < count
            ids[step] = np.resize(pool[draw.row[:count]], size)
    return plan._replace(id=ids, mask=mask)
