"""What a probe says: one thing that a command may need, how it is, and its remedy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from distill.types import Record

Status = Literal["ok", "missing", "broken"]


class Finding(Record):
    name: str
    status: Status
    what: str
    """What was found, in one line."""
    fix: str = ""
    """What to do about it."""
    needed: bool = False
    """Whether `distill run tiny` fails because of it."""


Found = Iterable[Finding]


def line(error: BaseException) -> str:
    """The first line of what an error says."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:300]}" if text else type(error).__name__
