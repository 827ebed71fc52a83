r"""Numeric: a number within a tolerance; `1,234.5`, `3/4`, `\frac{3}{4}`, `1.2 \times 10^3`, `12%`.

`12%` means 12/100, so it equals `0.12` and never silently `12`. The gold is a number or its text.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from fractions import Fraction

from pydantic import Field

from distill.answers import variants
from distill.answers.numbers import number
from distill.answers.plain import HEDGED, RIGHT, is_hedged, is_marked, stated_answer, wrong
from distill.errors import InputError
from distill.types import Examples, Outcome, Record
from distill.verifiers import Verifier


class Config(Record):
    absolute: float = Field(0.0, ge=0)
    """Distance that an answer may have from the gold; an answer within either tolerance passes."""
    relative: float = Field(1e-6, ge=0)
    """Distance that an answer may have from the gold, as a share of the gold's size."""


class Numeric(Verifier):
    def __init__(self, config: Config) -> None:
        self._config = config

    def verify(self, gold: object, text: str) -> Outcome:
        expected = _read(gold)
        if is_hedged(text):
            return HEDGED
        answer = number(stated_answer(text))
        if answer is None:
            return wrong("not_a_number", stated_answer(text)) if is_marked(text) else wrong("no_answer")
        if abs(answer - expected) <= self._tolerance(expected):
            return RIGHT
        return wrong("wrong_answer", f"{stated_answer(text):.80}, not {gold}")

    def _tolerance(self, expected: Fraction) -> Fraction:
        return max(Fraction(self._config.absolute), abs(expected) * Fraction(self._config.relative))

    def key(self, gold: object, text: str) -> Hashable | None:
        return None if is_hedged(text) else number(stated_answer(text))

    def examples(self, gold: object) -> Examples:
        value = _read(gold)
        clearance = 2 * self._tolerance(value) + 1
        return Examples(
            variants.number_type(str(gold)), [str(gold), str(value)], [str(value + clearance), str(value - clearance)]
        )


def _read(gold: object) -> Fraction:
    if isinstance(gold, str):
        value = number(gold)
    elif isinstance(gold, int | float) and not isinstance(gold, bool) and math.isfinite(gold):
        value = Fraction(str(gold))  # 0.1 as written, not its binary neighbour
    else:
        value = None
    if value is None:
        raise InputError(f"not a gold of `numeric`: {gold!r:.100}", fix="give a number, such as 3.5 or '7/2'")
    return value


def build(config: Config) -> Numeric:
    return Numeric(config)
