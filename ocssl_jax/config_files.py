"""A config's file and the flags that change its fields, checked before absl sees them.

Its own parser answers a field that is not there, or is not written as one, in riddles.
"""

import difflib
import keyword
import re
import runpy
from collections.abc import Iterable
from pathlib import Path

from ml_collections import ConfigDict

ROOT = Path(__file__).resolve().parents[1]  # the checkout, with launch.py and configs/


def read(name: str) -> ConfigDict:
    """The config of FILE[:VARIANT], which is code and is run.

    Raises:
      ValueError: naming the file, and what is wrong with it or which ones there are.
    """
    path, _, variant = name.partition(":")
    if not Path(path).is_file():
        own = sorted(f"configs/{path.name}" for path in ROOT.glob("configs/*.py"))
        known = ", ".join(own)
        raise ValueError(f"config file {path!r} not found; the project's are {known}")
    try:
        get_config = runpy.run_path(path)["get_config"]
        found = get_config(variant) if variant else get_config()
    except Exception as error:  # the file is the user's code and may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"config file {name} cannot be used ({reason})") from error
    if not isinstance(found, ConfigDict):
        raise ValueError(f"config file {name}: get_config() must return a ConfigDict")
    return found


def check_flags(arguments: Iterable[str], config: ConfigDict) -> None:
    """Raise unless every `--config.FIELD=VALUE` names a field of `config`.

    Raises:
      ValueError: naming the first that does not, and what is near it.
    """
    for argument in arguments:
        name = argument.lstrip("-").partition("=")[0]
        if not (argument.startswith("-") and name.startswith("config.")):
            continue
        written = re.fullmatch(r"config(\.[^\W\d]\w*(\[\d+\])*)+", name)
        if not written or any(map(keyword.iskeyword, name.split("."))):
            raise ValueError(
                f"--{name} names no field; one is written --config.stream.tasks=5"
            )
        check_field(name, config)


def check_field(name: str, config: ConfigDict) -> None:
    """Raise unless `config` has the field `name`, 'config.' and its dotted name.

    Raises:
      ValueError: naming the first part that is not there, and what is near it.
    """
    path, *parts = name.split(".")
    found = config
    for part in parts:
        part, *places = re.findall(r"\w+", part)
        if not isinstance(found, ConfigDict):
            raise ValueError(f"{path} has no fields, it is one; got --{name}")
        if part not in found:
            near = difflib.get_close_matches(part, found.keys(), n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(
                f"{path} has no field {part!r}; {hint}configs/default.py lists all"
            )
        path, found = f"{path}.{part}", found[part]
        for place in map(int, places):
            if not isinstance(found, tuple | list) or place >= len(found):
                raise ValueError(f"{path} has no item {place}; got --{name}")
            path, found = f"{path}[{place}]", found[place]
