"""Plain data across a pipe: what a test may pass to a program under test, and what may come back.

Only exact builtin types cross, rebuilt on the other side, so a result has no behaviour of its own: no `__eq__` that is
always true, no `__bool__` with side effects. Anything else arrives as an `Opaque` that equals only itself.
"""

from __future__ import annotations

import collections
import itertools
import os
import types
from collections.abc import Callable
from typing import Any

_AS_DICT = (dict, collections.Counter, collections.OrderedDict, collections.defaultdict)
_ROWS: dict[Any, str] = {list: "l", tuple: "t", set: "s", frozenset: "f"}
_LAZY = (types.GeneratorType, map, filter, zip, enumerate, reversed)
_LONG = 1 << 64
_MOST = 100_000
"""Items that are drawn from a generator before it counts as endless."""


class Opaque:
    """Stands for a value that is not plain data; `kind` names its type."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<{self.kind}>"


def encode(value: Any) -> Any:
    """JSON for a value: numbers, strings, None and booleans as they are, the rest as [tag, …].

    Raises:
        RecursionError: it is nested too deeply, or contains itself.
    """
    kind: Any = type(value)
    if value is None or kind in (bool, float, str):
        return value
    sent: list[Any] = ["o", kind.__name__]
    if kind is int:  # a long one as hex: JSON's decimals are slow and limited in length
        return value if -_LONG < value < _LONG else ["i", hex(value)]
    if kind in _ROWS:
        sent = [_ROWS[kind], *map(encode, value)]
    elif kind in _AS_DICT:
        sent = ["d", *([encode(key), encode(item)] for key, item in value.items())]
    elif kind in _LAZY:
        items = list(itertools.islice(value, _MOST + 1))
        sent = ["g", *map(encode, items)] if len(items) <= _MOST else sent
    elif kind is range:
        sent = ["r", value.start, value.stop, value.step]
    elif kind is bytes:
        sent = ["b", value.hex()]
    elif kind is complex:
        sent = ["c", value.real, value.imag]
    return sent


def decode(sent: Any) -> Any:
    """The value that `encode` was given.

    Raises:
        ValueError, TypeError, LookupError, RecursionError: what arrived is not of that form.
    """
    if isinstance(sent, list):
        return _BUILD[sent[0]](*sent[1:])
    if isinstance(sent, dict):
        raise ValueError("not plain data")
    return sent


_BUILD: dict[str, Callable[..., Any]] = {
    "l": lambda *items: [*map(decode, items)],
    "t": lambda *items: tuple(map(decode, items)),
    "s": lambda *items: set(map(decode, items)),
    "f": lambda *items: frozenset(map(decode, items)),
    "d": lambda *items: {decode(key): decode(item) for key, item in items},
    "g": lambda *items: iter([*map(decode, items)]),
    "r": range,
    "i": lambda text: int(text, 16),
    "b": bytes.fromhex,
    "c": complex,
    "o": lambda kind: Opaque(str(kind)),
}


def restore(old: Any, new: Any) -> None:
    """Make a mutable argument equal to what the program left of it, in place, as a call in one process would."""
    if type(old) is list and type(new) is list:
        if len(old) == len(new):
            for left, right in zip(old, new, strict=True):
                restore(left, right)
        same = (type(left) is type(right) and left == right for left, right in zip(old, new, strict=False))
        old[:] = [*(old[i] if kept else new[i] for i, kept in enumerate(same)), *new[len(old) :]]
    elif type(old) in (dict, set) and type(new) is type(old):
        old.clear()
        old.update(new)


def read_line(fd: int) -> bytes:
    """One line without buffering ahead, since another process may read the next; empty at the end."""
    line = bytearray()
    while not line.endswith(b"\n"):
        data = os.read(fd, 1 << 16)
        if not data:
            return b""
        line += data
    return bytes(line)


def write_line(fd: int, line: bytes) -> None:
    view = memoryview(line + b"\n")
    while view:
        view = view[os.write(fd, view) :]
