"""Correct: the problem's own verifier accepts the answer."""

from __future__ import annotations

from distill.filters import Context, Filter
from distill.types import Record


class Config(Record):
    pass


def build(config: Config, context: Context) -> Filter:
    return context.verifiers.judge
