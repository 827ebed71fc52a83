r"""Choice: one letter A-J, as in `B`, `(B)`, `B.`, `\text{B}`, `**B**` or `B) the option's text`.

The option's text may follow the letter's mark, but a second letter that stands alone makes the answer ambiguous.
"""

from __future__ import annotations

import re
from collections.abc import Hashable

from distill.answers.plain import HEDGED, RIGHT, is_hedged, is_marked, stated_answer, wrong
from distill.errors import InputError
from distill.types import Examples, Outcome, Record
from distill.verifiers import Verifier

_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\{([^{}]*)\}")
_ALONE = re.compile(r"[(\[]?([A-Ja-j])[)\].:]?\.?")
_LABELLED = re.compile(r"(?:\(([A-J])\)|([A-J])[).:])\s*(.+)", re.DOTALL)
_LETTER = re.compile(r"(?<![^\W_])[A-J](?![^\W_]|')")


class Config(Record):
    pass


def letter(answer: str) -> str | None:
    """The one letter that an answer names, or None."""
    plain = _WRAPPED.sub(r"\1", answer).strip(" \t\n$*")
    alone = _ALONE.fullmatch(plain)
    if alone:
        return alone[1].upper()
    labelled = _LABELLED.fullmatch(plain)
    if labelled:
        named = labelled[1] or labelled[2]
        if set(_LETTER.findall(labelled[3])) <= {named}:
            return named
    return None


class Choice(Verifier):
    def verify(self, gold: object, text: str) -> Outcome:
        expected = letter(gold) if isinstance(gold, str) else None
        if expected is None:
            raise InputError(f"not a gold of `choice`: {gold!r:.100}", fix="give one letter from A to J")
        if is_hedged(text):
            return HEDGED
        answer = letter(stated_answer(text))
        if answer is None:
            return wrong("ambiguous", stated_answer(text)) if is_marked(text) else wrong("no_answer")
        if answer != expected:
            return wrong("wrong_answer", f"{answer}, not {expected}")
        return RIGHT

    def key(self, gold: object, text: str) -> Hashable | None:
        return None if is_hedged(text) else letter(stated_answer(text))

    def examples(self, gold: object) -> Examples:
        right = letter(str(gold)) or "A"
        next_letter = chr(ord("A") + (ord(right) - 64) % 10)
        return Examples("choice", [right, f"({right})", f"\\text{{{right}}}"], [next_letter])


def build(config: Config) -> Choice:
    return Choice()
