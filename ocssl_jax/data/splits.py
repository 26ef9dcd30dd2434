"""Images that are taken out of an experience: for validation, and to blur boundaries.

Every draw has a random stream of its own, from the seed and what it is for, so that one
choice never changes another.
"""

import numpy as np

VALIDATION, BLUR, PERMUTATION = 0, 1, 2  # separate random streams of one seed
REST, START, END = 0, 1, 2  # what an experience keeps, and gives to its boundaries


def generator(seed: int, *purpose: int) -> np.random.Generator:
    """The random stream of a seed for one purpose."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=purpose))


def held_out(
    label: np.ndarray,
    images: np.ndarray,
    ratio: float,
    seed: int,
    key: tuple[int, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """Splits an experience, class by class.

    Args:
      label: [n] of all training images.
      images: positions of the experience's, ascending.
      ratio: part of each class that is held out, rounded down; in [0, 1).
      seed: of the split.
      key: what else it depends on, besides the class.

    Returns:
      Positions held out and positions left, int32, each ascending.
    """
    own = label[images]
    out = np.zeros(len(images), bool)
    for category in np.unique(own) if ratio else ():
        members = np.flatnonzero(own == category)
        shuffled = generator(seed, VALIDATION, category, *key).permutation(members)
        out[shuffled[: int(ratio * len(members))]] = True
    return images[out].astype(np.int32), images[~out].astype(np.int32)


def blurred(
    label: np.ndarray, train: tuple[np.ndarray, ...], *, blur: int, seed: int
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Takes images from both sides of every boundary between experiences.

    As in the reference, an experience of n images gives int(blur / n * n_c) of the n_c
    images of each class to the boundary behind it, and as many others to the one before
    it.

    Args:
      label: [n] of all training images.
      train: positions of each experience's images, ascending.
      blur: images that an experience gives to a boundary, at least 1.
      seed: of the choice.

    Returns:
      What is left of each experience, and one segment for each boundary; ascending.

    Raises:
      ValueError: an experience is too small to give as many, or has too many classes
        to give one of each.
    """
    if blur < 1:
        raise ValueError(f"a 'blurred' stream needs blur of at least 1, not {blur}")
    rest, starts, ends = [], [], []
    for number, images in enumerate(train):
        ways = [START] * (number > 0) + [END] * (number < len(train) - 1)
        side = _sides(label[images], ways, blur, seed, number)
        if not (side == REST).any():
            raise ValueError(
                f"experience {number} has {len(images)} images: too few to give {blur} "
                "to each boundary and keep some; lower blur or tasks"
            )
        rest.append(images[side == REST])
        starts.append(images[side == START])
        ends.append(images[side == END])
    sides = zip(ends[:-1], starts[1:], strict=True)
    segments = tuple(np.sort(np.concatenate(pair)) for pair in sides)
    if not all(map(len, segments)):
        raise ValueError(
            f"a blur of {blur} is less than one image of each class of an experience; "
            "raise it above their number"
        )
    return tuple(rest), segments


def _sides(
    own: np.ndarray, ways: list[int], blur: int, seed: int, number: int
) -> np.ndarray:
    """Which of `ways` each image of experience `number` goes, labels `own` [n]."""
    side = np.full(len(own), REST)
    for category in np.unique(own):
        members = np.flatnonzero(own == category)
        shuffled = generator(seed, BLUR, number, category).permutation(members)
        n = int(blur / len(own) * len(members))
        for i, way in enumerate(ways):
            side[shuffled[i * n : (i + 1) * n]] = way
    return side
