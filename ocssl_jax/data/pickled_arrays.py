"""Arrays, lists, dicts, texts and numbers out of a pickle, and nothing else.

A pickle is a program, and running one is trusting it. Here its instructions are only
read (`pickletools`, which runs none) and carried out on plain data by ourselves. The
one thing that may be built is a NumPy array of numbers; whatever names another function
or class is refused, and nothing that a file names is ever imported or called.
"""

import mmap
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from ocssl_jax.data.errors import DataError

MARK = object()
# What writes of NumPy's arrays, of any version and protocol, refer to.
NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): "array",
    ("numpy._core.multiarray", "_reconstruct"): "array",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY: dict[str, Any] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# Parts of the names of instructions that push a value.
VALUES = ("INT", "LONG", "FLOAT", "UNICODE", "STRING", "BYTES")
SILENT = ("PROTO", "FRAME")


class Refused(Exception):
    """Something in a pickle that is no plain data."""


DAMAGE = (
    *(Refused, ValueError, TypeError, LookupError, AttributeError),
    *(OverflowError, RecursionError),
)


class Named(str):
    """What a pickle names, one of the values of `NAMES`."""


class Building:
    """An array or a type that waits for its state."""

    def __init__(self, what: str, code: str = ""):
        """`what` is 'array' or 'dtype'; `code` is the latter's."""
        self.what, self.code = what, code
        self.value: Any = None


def read(path: Path) -> Any:
    """What the pickle in `path` holds.

    Raises:
      DataError: if it is damaged, or holds anything but arrays and plain data.
    """
    try:
        with (
            path.open("rb") as file,
            # It reads no further than its end, whatever length a pickle claims.
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole,
        ):
            return _finished(_Machine().run(whole))
    except DAMAGE as error:
        raise DataError(f"{path} holds no arrays and plain data ({error})") from error


class _Machine:
    """Stack and memo of a pickle's instructions."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: Any) -> Any:
        for code, argument, _ in pickletools.genops(file):
            if code.name == "STOP":
                return self.stack.pop()
            self.step(code.name, argument)
        raise Refused("it ends too early")

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in SILENT:
            return
        if name == "MARK":
            stack.append(MARK)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name in TUPLES:
            stack[-TUPLES[name] :] = [tuple(stack[-TUPLES[name] :])]
        elif name in ("TUPLE", "LIST", "DICT"):
            self.gather(name)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self.name(argument)
        elif "PUT" in name or name == "MEMOIZE":
            self.memo[len(self.memo) if argument is None else int(argument)] = stack[-1]
        elif "GET" in name:
            stack.append(self.memo[int(argument)])
        elif name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS"):
            self.fill(name)
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(_made(stack.pop(), arguments))
        elif name == "BUILD":
            _build(stack[-2], stack.pop())
        elif any(kind in name for kind in VALUES):
            stack.append(argument)
        else:
            raise Refused(f"an instruction {name}")

    def since_mark(self) -> list[Any]:
        last = len(self.stack) - 1 - self.stack[::-1].index(MARK)
        found = self.stack[last + 1 :]
        del self.stack[last:]
        return found

    def gather(self, name: str) -> None:
        found = self.since_mark()
        pairs = lambda: dict(zip(found[::2], found[1::2], strict=True))
        made = {"TUPLE": lambda: tuple(found), "LIST": lambda: found, "DICT": pairs}
        self.stack.append(made[name]())

    def name(self, argument: Any) -> None:
        if argument is None:
            attribute, module = self.stack.pop(), self.stack.pop()
        else:
            module, _, attribute = argument.partition(" ")
        if (module, attribute) not in NAMES:
            raise Refused(f"the name {module}.{attribute}")
        self.stack.append(Named(NAMES[module, attribute]))

    def fill(self, name: str) -> None:
        count = {"APPEND": 1, "SETITEM": 2}.get(name)
        if count:
            found = self.stack[-count:]
            del self.stack[-count:]
        else:
            found = self.since_mark()
        if name.startswith("APPEND"):
            self.stack[-1].extend(found)
        else:
            self.stack[-1].update(zip(found[::2], found[1::2], strict=True))


def _made(what: Any, arguments: tuple[Any, ...]) -> Any:
    """What a call of one of `NAMES` stands for."""
    if not isinstance(what, Named):
        raise Refused("a call of what is no name")
    if what == "encode":
        text, coding = arguments
        if coding not in ("latin1", "latin-1"):
            raise Refused(f"the coding {coding}")
        return text.encode("latin-1")
    if what == "dtype":
        return Building("dtype", str(arguments[0]))
    if what == "array":
        return Building("array")
    raise Refused(f"a call of {what}")


def _build(target: Any, state: Any) -> None:
    """Fill an array or a type with its state, as NumPy's `__setstate__` would."""
    if not isinstance(target, Building):
        raise Refused("the state of an object")
    if target.what == "dtype":
        order = state[1] if state[1] in "<>" else ""
        target.value = np.dtype(order + target.code)
        return
    _, shape, kind, by_column, data = state
    dtype = np.dtype(kind.value or kind.code)
    if dtype.kind not in "biuf":
        raise Refused(f"an array of {dtype}")
    raw = data.encode("latin-1") if isinstance(data, str) else data
    rows = np.frombuffer(raw, dtype)
    by_row = rows.reshape(shape[::-1]).T if by_column else rows.reshape(shape)
    target.value = by_row


def _finished(value: Any) -> Any:
    """`value` with arrays in place of what was building them."""
    if isinstance(value, Building):
        return value.value
    if isinstance(value, dict):
        return {_finished(k): _finished(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_finished, value))
    return value
