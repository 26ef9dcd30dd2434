"""When each image arrives: the batches of a stream, a pure function of its arguments.

So a run resumes from its step number alone.
"""

from typing import NamedTuple

import numpy as np

from ocssl_jax.data.experiences import Benchmark

# In the seeds of orders, beside an experience's number:
SEGMENT = 1  # of a blurred boundary
EPOCH = 2  # of a repetition, before its number
SUBSET = 3  # of the images that arrive at all
REPEATED = ("iid", "class", "domain")  # kinds whose images may arrive several times


class Schedule(NamedTuple):
    """The batches in the order of their arrival."""

    id: np.ndarray  # [steps b] int32, positions in train_image
    mask: np.ndarray  # [steps b] bool, False on rows that fill up a last, short batch
    experience: np.ndarray  # [steps] int32
    boundary: np.ndarray  # [steps] bool, the first batch of an experience or segment
    epoch: np.ndarray  # [steps] int32, how often the images have arrived before


class Phase(NamedTuple):
    """Images that arrive shuffled among themselves."""

    images: np.ndarray  # int32 positions
    key: tuple[int, ...]  # of their order, beside the key seed
    experience: int
    epoch: int = 0  # how often they have arrived before

    @property
    def first(self) -> bool:
        """Whether they begin with a boundary: nothing of it has arrived before."""
        return self.epoch == 0


def schedule(
    bench: Benchmark,
    *,
    key_seed: int,
    batch_size: int,
    limit: int = 0,
    epochs: int = 1,
    known: int = 0,
    samples: int = 0,
) -> Schedule:
    """The order of arrival: every training image exactly once, or `epochs` times.

    Each experience is shuffled by `default_rng([key_seed, experience])` and cut into as
    few batches as hold it, their sizes differing by at most one: a last batch of a
    single image would ruin the running statistics just before the probe. Batches below
    `batch_size` are filled up with masked rows.

    The segment before an experience of a 'blurred' stream counts as a part of that
    experience, shuffled by itself and with a boundary of its own. An 'iid' stream
    shuffles all images anew each epoch; its steps are cut into experiences of equal
    length, rounded, for the probes' sake alone: it has no boundary but the first.

    Args:
      bench: the experiences.
      key_seed: of the order, at least 0; one per run seed.
      batch_size: rows of a batch.
      limit: keeps only so many batches after the known experiences; 0 keeps them all.
      epochs: how often the images arrive, of an 'iid' stream or of each experience of a
        'class' or 'domain' stream, shuffled anew each time; 1 for all other kinds.
      known: the first so many experiences arrive once, whatever `epochs` says; all of
        them may.
      samples: so many images of each experience arrive, the same in every epoch and
        drawn by the key seed; 0: all. Of experiences that have no more, all.

    Raises:
      ValueError: a number is out of its range.
    """
    _check(bench, key_seed, batch_size, limit, epochs, known)
    phases = _phases(_some(bench, key_seed, samples), epochs, known)
    ids, mask, start, experience, epoch = [], [], [], [], []
    for phase in phases:
        rng = np.random.default_rng([key_seed, *phase.key])
        order = rng.permutation(phase.images)
        steps = -(-len(order) // batch_size)
        parts = np.array_split(order, steps) if steps else []
        ids += [np.resize(part, batch_size) for part in parts]
        mask += [np.arange(batch_size) < len(part) for part in parts]
        start.append((np.arange(steps) == 0) & phase.first)
        experience.append(np.full(steps, phase.experience, np.int32))
        epoch.append(np.full(steps, phase.epoch, np.int32))
    whole = Schedule(
        id=np.stack(ids).astype(np.int32),
        mask=np.stack(mask),
        experience=np.concatenate(experience),
        boundary=np.concatenate(start),
        epoch=np.concatenate(epoch),
    )
    if bench.kind == "iid":
        whole = _probed_evenly(whole, len(bench.train))
    stop = limit and limit + np.count_nonzero(whole.experience < known)
    return whole if not limit else Schedule(*(field[:stop] for field in whole))


def _check(
    bench: Benchmark,
    key_seed: int,
    batch_size: int,
    limit: int,
    epochs: int,
    known: int,
) -> None:
    if key_seed < 0 or batch_size < 1 or limit < 0 or epochs < 1:
        raise ValueError(
            "key_seed and limit must be at least 0, batch_size and epochs at least 1, "
            f"not {key_seed}, {limit}, {batch_size} and {epochs}"
        )
    if epochs > 1 and bench.kind not in REPEATED:
        raise ValueError(
            f"epochs must be 1 for a stream of the kind {bench.kind!r}, which arrives "
            f"once; only {', '.join(map(repr, REPEATED))} may have more, not {epochs}"
        )
    most = 0 if bench.kind == "iid" else len(bench.train)
    if not 0 <= known <= most:
        raise ValueError(
            f"known must be 0 to {most} for a stream of the kind {bench.kind!r} with "
            f"{len(bench.train)} tasks, not {known}"
        )


def _some(bench: Benchmark, key_seed: int, samples: int) -> Benchmark:
    """At most `samples` training images of each experience, any of them."""
    if not samples:
        return bench
    draw = lambda i: np.random.default_rng([key_seed, i, SUBSET])
    chosen = [
        np.sort(draw(i).permutation(images)[:samples])
        for i, images in enumerate(bench.train)
    ]
    return bench._replace(train=tuple(chosen))


def _phases(bench: Benchmark, epochs: int, known: int) -> list[Phase]:
    if bench.kind == "iid":
        pool = np.concatenate(bench.train)
        return [Phase(pool, (epoch,), 0, epoch) for epoch in range(epochs)]
    phases = []
    for number, images in enumerate(bench.train):
        if number and bench.segments:
            key = (number, SEGMENT)
            phases.append(Phase(bench.segments[number - 1], key, number))
        phases.append(Phase(images, (number,), number))
        again = range(1, epochs) if number >= known else ()
        phases += [Phase(images, (number, EPOCH, e), number, e) for e in again]
    return phases


def _probed_evenly(whole: Schedule, parts: int) -> Schedule:
    """The schedule cut into `parts` experiences, without a boundary between them."""
    steps = len(whole.experience)
    if steps < parts:
        raise ValueError(
            f"{steps} batches do not make {parts} tasks; lower tasks or batch_size"
        )
    ends = (2 * steps * np.arange(1, parts + 1) + parts) // (2 * parts)  # rounded
    experience = np.searchsorted(ends, np.arange(steps), side="right")
    return whole._replace(
        experience=experience.astype(np.int32), boundary=np.arange(steps) == 0
    )
