"""Arithmetic expressions in exact fractions, read by a small parser and never evaluated as code."""

from __future__ import annotations

import re
from fractions import Fraction

_SPELLINGS = {"×": "*", "·": "*", "\\times": "*", "\\cdot": "*", "÷": "/", "\\div": "/", "−": "-"}
_TOKEN = re.compile(r"\s*(?:([0-9]+)|(\\times(?![a-zA-Z])|\\cdot(?![a-zA-Z])|\\div(?![a-zA-Z])|[-+*/()×·÷−]))")
_LONGEST = 200
_DEEPEST = 20


class Expression:
    """Reads an expression by recursive descent.

    The grammar is `sum = product (±product)*`, `product = atom (*/ atom)*`, `atom = integer | (sum)`.

    Raises:
        ValueError: not such an expression.
        ZeroDivisionError: it divides by zero.
    """

    def __init__(self, text: str) -> None:
        if len(text) > _LONGEST:
            raise ValueError(f"longer than {_LONGEST} characters")
        self.numbers: list[int] = []
        self._tokens = self._scan(text.strip())
        self._position = 0
        self._depth = 0
        self.value = self._chain("+-")
        if self._lookahead is not None:
            raise ValueError(f"unexpected {self._lookahead}")

    @staticmethod
    def _scan(text: str) -> list[str]:
        tokens = []
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if not match:
                raise ValueError(f"unexpected {text[position:].strip()[:20]}")
            tokens.append(match[1] or _SPELLINGS.get(match[2], match[2]))
            position = match.end()
        return tokens

    @property
    def _lookahead(self) -> str | None:
        if self._position < len(self._tokens):
            return self._tokens[self._position]
        return None

    def _chain(self, signs: str) -> Fraction:
        value = self._operand(signs)
        while (sign := self._lookahead) is not None and sign in signs:
            self._position += 1
            right = self._operand(signs)
            value = {"+": value.__add__, "-": value.__sub__, "*": value.__mul__, "/": value.__truediv__}[sign](right)
        return value

    def _operand(self, signs: str) -> Fraction:
        """What the signs join: products by `+-`, atoms by `*/`."""
        return self._chain("*/") if signs == "+-" else self._atom()

    def _atom(self) -> Fraction:
        symbol = self._lookahead or "end"
        self._position += 1
        if symbol.isdigit():
            self.numbers.append(int(symbol))
            return Fraction(int(symbol))
        if symbol != "(":
            raise ValueError(f"unexpected {symbol}")
        if self._depth >= _DEEPEST:
            raise ValueError("nested too deeply")
        self._depth += 1
        value = self._chain("+-")
        if self._lookahead != ")":
            raise ValueError("unbalanced parentheses")
        self._depth -= 1
        self._position += 1
        return value
