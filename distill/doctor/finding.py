"""What a probe says: one thing that a command may need, how it is, and its remedy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from distill.types import Record

Status = Literal["ok", "missing", "broken"]


class Finding(Record):
    name: str
    status: Status
    message: str
    """The finding in one line."""
    fix: str = ""
    """The remedy; empty where there is nothing to do."""
    needed: bool = False
    """Whether `distill run tiny` fails where the status is not ok."""


Findings = Iterable[Finding]


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    text = str(error).strip()
    if not text:
        return type(error).__name__
    return f"{type(error).__name__}: {text.splitlines()[0][:300]}"
