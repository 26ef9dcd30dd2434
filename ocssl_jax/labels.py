"""Short words for settings: names of folders, labels of rows."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

OBJECTIVES = {
    "cross_entropy": "cross entropy",
    "info_nce": "InfoNCE",
    "gcl": "GCL",
    "gdro": "group DRO",
    "sup_con": "SupCon",
}  # of clip, in words


def learner(get: Callable[[str], Any]) -> str:
    """What a run is called: its strategy or, of CLIP without one, its objective.

    CLIP that only passes the stream by is "zero-shot". `get` gives a config's fields by
    their dotted names.
    """
    strategy = str(get("strategy.name"))
    if strategy != "none" or get("method.name") != "clip":
        return strategy
    if get("stream.known") == get("stream.tasks"):
        return "zero-shot"
    objective = str(get("method.clip.objective"))
    return OBJECTIVES.get(objective, objective)


def short_names(fields: Iterable[str]) -> dict[str, str]:
    """Dotted fields -> their last part, or in full where two would be alike.

    A field that ends in `name` is called by what it names: `strategy.name` -> strategy.
    """
    fields = list(fields)
    short = {field: field.removesuffix(".name").split(".")[-1] for field in fields}
    alone = lambda name: list(short.values()).count(name) == 1
    return {field: name if alone(name) else field for field, name in short.items()}


def shown(value: Any) -> str:
    """A value of a config as a word: 0.1, 2, true, encoder+projector, none for ()."""
    if isinstance(value, tuple | list):
        return "+".join(map(shown, value)) or "none"
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else str(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def label(values: Mapping[str, Any]) -> str:
    """Such as `learning_rate=0.1,align_weight=2` of dotted field -> value."""
    names = short_names(values)
    return ",".join(f"{names[field]}={shown(value)}" for field, value in values.items())
