"""What classes are called, where the data set has other names for them.

ImageNet's classes are numbers of WordNet there, `n01440764`; its own list
`LOC_synset_mapping.txt` says what they mean: `n01440764 tench, Tinca tinca`.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from ocssl_jax.errors import UsageError

FIELD = "config.method.clip.names"
NUMBER = re.compile(r"n\d{8}")  # of WordNet
SHOWN = 3


def called(class_names: Sequence[str], path: str) -> tuple[str, ...]:
    """The names of the classes, in the order of `class_names`.

    Args:
      class_names: as the data set has them.
      path: of a file with a line for each class, its name there, a blank and what it is
        called, up to a comma; other lines do not matter. '': they are called that.

    Raises:
      UsageError: if a class is missing, or its name is no word.
    """
    if not path:
        if all(NUMBER.fullmatch(name) for name in class_names):
            raise UsageError(
                f"{FIELD} must be a file that says what classes such as "
                f"{class_names[0]} are called, like ImageNet's LOC_synset_mapping.txt"
            )
        return tuple(class_names)
    try:
        lines = Path(path).expanduser().read_text().splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"{FIELD}: {path} cannot be read ({error})") from error
    pairs = (line.strip().split(None, 1) for line in lines)
    known = {p[0]: p[1].split(",")[0].strip() for p in pairs if len(p) > 1}
    absent = [name for name in class_names if not known.get(name)]
    if absent:
        raise UsageError(
            f"{FIELD}: {path} does not say what {len(absent)} classes are called: "
            f"{', '.join(absent[:SHOWN])}{', …' if len(absent) > SHOWN else ''}"
        )
    return tuple(known[name] for name in class_names)
