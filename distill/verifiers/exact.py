"""Exact: the answer is the gold string, apart from blanks, case and surrounding punctuation.

The gold is a string, or a list of strings of which any will do.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable
from typing import Any

from distill.answers.plain import HEDGED, RIGHT, is_hedged, stated_answer, wrong
from distill.answers.variants import Examples
from distill.errors import InputError
from distill.types import Outcome, Record

_EDGES = " .,;:!?\"'`*。，；：！？“”‘’「」"


class Config(Record):
    case: bool = False
    """Whether upper and lower case are told apart."""
    punctuation: bool = False
    """Whether punctuation around the answer matters."""


class Exact:
    def __init__(self, config: Config) -> None:
        self._config = config

    def _normal(self, text: str) -> str:
        text = " ".join(unicodedata.normalize("NFC", text).split())
        if not self._config.case:
            text = text.casefold()
        if self._config.punctuation:
            return text
        return text.strip(_EDGES) or text  # an answer of nothing but punctuation stays as it is

    def verify(self, gold: Any, text: str) -> Outcome:
        golds = [gold] if isinstance(gold, str) else gold
        if not isinstance(golds, list | tuple) or not golds or not all(isinstance(g, str) and g.strip() for g in golds):
            raise InputError(f"not a gold of `exact`: {gold!r:.100}", fix="give a string or a list of strings")
        if is_hedged(text):
            return HEDGED
        answer = self._normal(stated_answer(text))
        if not answer:
            return wrong("no_answer")
        if answer in map(self._normal, golds):
            return RIGHT
        return wrong("wrong_answer", f"{answer:.80}, not {golds[0]}")

    def key(self, gold: Any, text: str) -> Hashable | None:
        return None if is_hedged(text) else self._normal(stated_answer(text)) or None

    def examples(self, gold: Any) -> Examples:
        first = gold if isinstance(gold, str) else gold[0]
        return Examples("text", [first, f" {first}\n"], [f"not {first}"])


def build(config: Config) -> Exact:
    return Exact(config)
