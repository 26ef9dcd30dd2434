"""From `--grid` flags to the points of a full grid, each with the config of its run."""

import ast
import shlex
import zlib
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from ocssl_jax import dotted, labels, settings, workdir
from ocssl_jax.commandline import configured
from ocssl_jax.errors import UsageError

PICTURES = ("folder", "domain_folder")  # data sets that only their folder tells apart
LONGEST = 120  # characters of a folder's name; file systems take 255
OWN_FILES = (".lock", "sweep.json", "sweep.csv", "sweep.log")
Grid = dict[str, list[str]]  # dotted field -> values as they are typed


class Point(NamedTuple):
    """One run of a grid."""

    arguments: tuple[str, ...]  # of launch.py, without the workdir
    config: ConfigDict  # resolved
    overrides: Mapping[str, Any]  # dotted field -> value, as launch.py would record
    values: Mapping[str, Any]  # dotted field of the grid -> its value here

    @property
    def name(self) -> str:
        """A readable name that fits into a folder: learning_rate=0.1,align_weight=2."""
        text = labels.label(self.values)
        safe = "".join(c if c.isalnum() or c in "._=+,-" else "-" for c in text)
        if safe == text and len(text) <= LONGEST:
            return text
        return f"{safe[:LONGEST]}-{zlib.crc32(text.encode()):08x}"

    @property
    def key(self) -> str:
        """The same for configs that give the same results."""
        return key(settings.as_json(self.config))

    def command(self, folder: Path) -> str:
        """The shell command that runs the point by itself in `folder`."""
        return shlex.join(
            ["python", "launch.py", *self.arguments, f"--workdir={folder}"]
        )


def free(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Fields that do not decide the results of a config, as JSON holds it.

    Where pictures lie does, if nothing else says which they are.
    """
    fields = dotted.flat(config)
    deciding = {
        f"{group}.data_dir"
        for group in ("stream", "probe")
        if fields.get(f"{group}.dataset") in PICTURES
    }
    return tuple(field for field in dotted.FREE if field not in deciding)


def key(config: Mapping[str, Any]) -> str:
    """One text for all configs, as JSON holds them, that are the same point."""
    return dotted.key(config, free(config))


def parse(flags: Sequence[str]) -> Grid:
    """The grid of `FIELD=V1,V2,...` flags.

    Commas within brackets or quotes belong to a value, so the values of a tuple are
    written in brackets: `strategy.climb.ema_parts=(encoder,),(encoder,projector)`.

    Raises:
      UsageError: naming the flag that is wrong.
    """
    grid: Grid = {}
    for flag in flags:
        field, _, text = flag.partition("=")
        field = field.strip().removeprefix("config.")
        values = [value.strip() for value in split(text)]
        if not field or not all(values):
            raise UsageError(f"--grid needs FIELD=V1,V2,..., got {flag!r}")
        if field == "seeds":
            raise UsageError(
                "seeds are no grid: every point runs them all, --config.seeds=0,1,2"
            )
        if field in grid:
            raise UsageError(f"--grid {field} is given twice; list its values in one")
        grid[field] = values
    if not grid:
        raise UsageError("a sweep needs a grid: --grid FIELD=V1,V2,...")
    return grid


def split(text: str) -> list[str]:
    """Parts between the commas that are outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for c in text:
        if quote or c in "'\"":
            quote = "" if c == quote else quote or c
        depth += 0 if quote else (c in "([{") - (c in ")]}")
        if c == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += c
    return parts


def points(source: str, fixed: Sequence[str], grid: Grid) -> list[Point]:
    """Every combination of the grid's values, the last field varying fastest.

    Args:
      source: config file, FILE[:VARIANT].
      fixed: `--config.FIELD=VALUE` flags that all points share.
      grid: the values to combine.

    Raises:
      UsageError: if a field is set twice, a value cannot be used, or two are the same.
    """
    for field in grid:
        if any(flag.startswith(f"--config.{field}=") for flag in fixed):
            raise UsageError(f"{field} is set by --grid and by --config.{field}")
    found = [
        _point(source, fixed, dict(zip(grid, values, strict=True)))
        for values in product(*grid.values())
    ]
    alike = {point.key: point for point in found}
    for point in found:
        if alike[point.key] is not point:
            raise UsageError(
                f"two points of the grid are the same run: {point.name} and "
                f"{alike[point.key].name}"
            )
    return found


def _point(source: str, fixed: Sequence[str], values: Mapping[str, str]) -> Point:
    flags = [f"--config.{field}={_bare(text)}" for field, text in values.items()]
    arguments = (f"--config={source}", *fixed, *flags)
    config, overrides = configured(arguments)
    config = settings.resolve(config, overrides)
    parsed = {field: dotted.get(config, field) for field in values}
    for field, value in parsed.items():
        if isinstance(value, ConfigDict):
            raise UsageError(f"--grid {field} is a group of fields; name one of them")
    return Point(arguments, config, overrides, parsed)


def _bare(text: str) -> str:
    """`(a,b)` as `a,b`, which is how launch.py takes a tuple of names."""
    if not (text.startswith("(") and text.endswith(")")):
        return text
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text[1:-1]
    return text


def placed(found: Sequence[Point], folder: Path) -> dict[str, Point]:
    """Folder name -> point; a run that is in the sweep's folder already keeps its own.

    So a grid may grow, by values or by fields: what was run before is found again by
    its config.

    Raises:
      UsageError: if the folder holds a run that is no point of the grid, or is no
        folder for a sweep at all.
    """
    check_folder(folder)
    runs = {path.parent.name: path for path in sorted(folder.glob("*/config.json"))}
    configs = {
        n: workdir.read_json(p, needs="config")["config"] for n, p in runs.items()
    }
    names = {key(config): name for name, config in configs.items()}
    keys = {point.key for point in found}
    for name, config in configs.items():
        if key(config) not in keys:
            raise UsageError(_stranger(folder / name, config, found))
    return {names.get(point.key, point.name): point for point in found}


def check_folder(folder: Path) -> None:
    """Raise UsageError unless a sweep may write into `folder`."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--workdir {folder} is a file, a folder is needed")
    if (folder / "config.json").exists():
        raise UsageError(f"--workdir {folder} is the folder of a run, not of a sweep")
    held = folder.iterdir() if folder.exists() else ()
    strange = [path for path in held if not _of_sweep(path)]
    if strange and not (folder / "sweep.json").exists():
        raise UsageError(
            f"--workdir {folder} holds files but no sweep.json; "
            f"choose an empty or new folder"
        )


def _of_sweep(path: Path) -> bool:
    """Whether a sweep may have written it: a file of its own, or the folder of a run.

    Whose run it is shows in its config.
    """
    if path.name in OWN_FILES or path.suffix == ".draft":
        return True
    return path.is_dir() and (
        (path / "config.json").exists() or {p.name for p in path.iterdir()} <= {".lock"}
    )


def _stranger(folder: Path, config: Mapping[str, Any], found: Sequence[Point]) -> str:
    """Why the run in `folder` is none of the grid: its difference from the nearest."""
    changed = min(
        (
            dotted.differences(config, settings.as_json(p.config), free(config))
            for p in found
        ),
        key=len,
    )
    return (
        f"{folder} is no point of this grid ({'; '.join(changed[:2])}); a sweep may "
        f"grow but not lose points: add its values to --grid or choose another "
        f"--workdir"
    )
