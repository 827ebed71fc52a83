"""Exact: the answer is the gold string, apart from blanks, case and surrounding punctuation.

The gold is a string, or a list of strings of which any will do.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable

from distill.answers.plain import HEDGED, RIGHT, is_hedged, stated_answer, wrong
from distill.errors import InputError
from distill.types import Examples, Outcome, Record
from distill.verifiers import Verifier

_EDGES = " .,;:!?\"'`*。，；：！？“”‘’「」"


class Config(Record):
    case: bool = False
    """Whether upper and lower case are told apart."""
    punctuation: bool = False
    """Whether punctuation around the answer matters."""


class Exact(Verifier):
    def __init__(self, config: Config) -> None:
        self._config = config

    def _normal(self, text: str) -> str:
        text = " ".join(unicodedata.normalize("NFC", text).split())
        if not self._config.case:
            text = text.casefold()
        if self._config.punctuation:
            return text
        return text.strip(_EDGES) or text  # an answer of nothing but punctuation stays as it is

    def verify(self, gold: object, text: str) -> Outcome:
        golds = _read(gold)
        if is_hedged(text):
            return HEDGED
        answer = self._normal(stated_answer(text))
        if not answer:
            return wrong("no_answer")
        if answer in map(self._normal, golds):
            return RIGHT
        return wrong("wrong_answer", f"{answer:.80}, not {golds[0]}")

    def key(self, gold: object, text: str) -> Hashable | None:
        return None if is_hedged(text) else self._normal(stated_answer(text)) or None

    def examples(self, gold: object) -> Examples:
        first = _read(gold)[0]
        return Examples("text", [first, f" {first}\n"], [f"not {first}"])


def build(config: Config) -> Exact:
    return Exact(config)


def _read(gold: object) -> list[str]:
    golds = gold if isinstance(gold, list | tuple) else [gold]
    texts = [text for text in golds if isinstance(text, str) and text.strip()]
    if not texts or len(texts) < len(golds):
        raise InputError(f"not a gold of `exact`: {gold!r:.100}", fix="give a string or a list of strings")
    return texts
