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

_DICT_TYPES = (dict, collections.Counter, collections.OrderedDict, collections.defaultdict)
_SEQUENCE_TAGS: dict[type, str] = {list: "l", tuple: "t", set: "s", frozenset: "f"}
_LAZY_TYPES = (types.GeneratorType, map, filter, zip, enumerate, reversed)
_LONG_INTEGER = 1 << 64
_MAX_DRAWN = 100_000
"""Items that are drawn from a generator before it counts as endless."""


class Opaque:
    """Stands for a value that is not plain data; `kind` names its type."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<{self.kind}>"


def encode(value: Any) -> object:
    """JSON for a value: numbers, strings, None and booleans as they are, the rest as [tag, …].

    Raises:
        RecursionError: it is nested too deeply, or contains itself.
    """
    value_type: type = type(value)
    if value is None or value_type in (bool, float, str):
        return value
    encoded: list[object] = ["o", value_type.__name__]
    if value_type is int:  # a long one as hex: JSON's decimals are slow and limited in length
        if abs(value) < _LONG_INTEGER:
            return value
        return ["i", hex(value)]
    if value_type in _SEQUENCE_TAGS:
        encoded = [_SEQUENCE_TAGS[value_type], *map(encode, value)]
    elif value_type in _DICT_TYPES:
        encoded = ["d", *([encode(key), encode(item)] for key, item in value.items())]
    elif value_type in _LAZY_TYPES:
        items = list(itertools.islice(value, _MAX_DRAWN + 1))
        if len(items) <= _MAX_DRAWN:
            encoded = ["g", *map(encode, items)]
    elif value_type is range:
        encoded = ["r", value.start, value.stop, value.step]
    elif value_type is bytes:
        encoded = ["b", value.hex()]
    elif value_type is complex:
        encoded = ["c", value.real, value.imag]
    return encoded


def decode(encoded: object) -> Any:
    """The value that `encode` was given.

    Raises:
        ValueError, TypeError, LookupError, RecursionError: what arrived is not of that form.
    """
    if isinstance(encoded, list):
        return _BUILDERS[encoded[0]](*encoded[1:])
    if isinstance(encoded, dict):
        raise ValueError("not plain data")
    return encoded


_BUILDERS: dict[str, Callable[..., object]] = {
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


def restore(argument: object, left_value: object) -> None:
    """Make a mutable argument equal to what the program left of it, in place, as a call in one process would."""
    if type(argument) is list and type(left_value) is list:
        if len(argument) == len(left_value):
            for item, left_item in zip(argument, left_value, strict=True):
                restore(item, left_item)
        items = [
            item if type(item) is type(left_item) and item == left_item else left_item
            for item, left_item in zip(argument, left_value, strict=False)
        ]
        argument[:] = [*items, *left_value[len(argument) :]]
    elif (type(argument) is dict and type(left_value) is dict) or (type(argument) is set and type(left_value) is set):
        argument.clear()
        argument.update(left_value)


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
    unwritten = memoryview(line + b"\n")
    while unwritten:
        unwritten = unwritten[os.write(fd, unwritten) :]
