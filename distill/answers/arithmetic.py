"""Arithmetic expressions in exact fractions, read by a small parser and never evaluated as code."""

from __future__ import annotations

import re
from fractions import Fraction

_SPELLINGS = {"×": "*", "·": "*", "\\times": "*", "\\cdot": "*", "÷": "/", "\\div": "/", "−": "-"}
_TOKEN = re.compile(r"\s*(?:([0-9]+)|(\\times(?![a-zA-Z])|\\cdot(?![a-zA-Z])|\\div(?![a-zA-Z])|[-+*/()×·÷−]))")
_LONGEST, _DEEPEST = 200, 20


class Expression:
    """Recursive descent over `sum = product (±product)*`, `product = atom (*/ atom)*`, `atom = integer | (sum)`.

    Raises:
        ValueError: not such an expression.
        ZeroDivisionError: it divides by zero.
    """

    def __init__(self, text: str) -> None:
        if len(text) > _LONGEST:
            raise ValueError(f"longer than {_LONGEST} characters")
        self.numbers: list[int] = []
        self._tokens = self._scan(text.strip())
        self._at = self._depth = 0
        self.value = self._chain("+-")
        if self._next is not None:
            raise ValueError(f"unexpected {self._next}")

    @staticmethod
    def _scan(text: str) -> list[str]:
        tokens, end = [], 0
        while end < len(text):
            match = _TOKEN.match(text, end)
            if not match:
                raise ValueError(f"unexpected {text[end:].strip()[:20]}")
            tokens.append(match[1] or _SPELLINGS.get(match[2], match[2]))
            end = match.end()
        return tokens

    @property
    def _next(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _chain(self, signs: str) -> Fraction:
        value = self._chain("*/") if signs == "+-" else self._atom()
        while (sign := self._next) is not None and sign in signs:
            self._at += 1
            right = self._chain("*/") if signs == "+-" else self._atom()
            value = {"+": value.__add__, "-": value.__sub__, "*": value.__mul__, "/": value.__truediv__}[sign](right)
        return value

    def _atom(self) -> Fraction:
        piece = self._next or "end"
        self._at += 1
        if piece.isdigit():
            self.numbers.append(int(piece))
            return Fraction(int(piece))
        if piece != "(":
            raise ValueError(f"unexpected {piece}")
        if self._depth >= _DEEPEST:
            raise ValueError("nested too deeply")
        self._depth += 1
        value = self._chain("+-")
        if self._next != ")":
            raise ValueError("unbalanced parentheses")
        self._depth -= 1
        self._at += 1
        return value
