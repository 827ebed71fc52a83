r"""Values of closed formulas in floating point, to tell quickly that two are different.

Letters get fixed values, so that two formulas which mean the same have the same value; equal values prove nothing, and
a formula with anything unknown or ambiguous (`1/2x`, `\log`, `2\frac12`) has none.
"""

from __future__ import annotations

import cmath
import re

_TOKEN = re.compile(r"\d+(?:\.\d+)?|\.\d+|\\[a-zA-Z]+|[a-zA-Z]|[-+*/^(){}\[\]]")
_CONSTANTS = {"e": cmath.e, "i": 1j, "\\pi": cmath.pi}
_FUNCTIONS = {"\\sin": cmath.sin, "\\cos": cmath.cos, "\\tan": cmath.tan, "\\ln": cmath.log, "\\exp": cmath.exp}
_CLOSING = {"(": ")", "{": "}", "[": "]"}
_GREEK = re.compile(r"\\(?:alpha|beta|gamma|delta|theta|lambda|mu|omega|phi|psi|rho|sigma|tau)")
# words, and a number with what may be a unit
_MAYBE_WORDS = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{3,}|^[-+]?[\d.,]+\s?[a-zA-Z]{1,2}$")
_LONGEST = 300
_DEEPEST = 30
_HUGE = 1e100


def surely_differ(formula: str, other_formula: str) -> bool:
    """Whether two normalised formulas surely have different values."""
    values = value(formula), value(other_formula)
    if values[0] is None or values[1] is None:
        return False
    return abs(values[0] - values[1]) > 1e-6 * max(abs(values[0]), abs(values[1]), 1e-12)


def value(text: str) -> complex | None:
    """The value of a formula, or None where it has none that is sure."""
    if len(text) > _LONGEST or _MAYBE_WORDS.search(text):
        return None
    tokens = _TOKEN.findall(text)
    if not tokens or "".join(tokens) != "".join(text.split()):
        return None
    try:
        reader = _Reader(tokens)
        result = complex(reader.sum())
        return result if reader.done and abs(result) < _HUGE else None
    except (ValueError, ArithmeticError, IndexError):
        return None


class _Reader:
    """Evaluates by recursive descent; every method takes its tokens and raises ValueError at what it does not know."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = [*tokens, ""]
        self._position = 0
        self._depth = 0

    @property
    def done(self) -> bool:
        return self._lookahead == ""

    @property
    def _lookahead(self) -> str:
        return self._tokens[self._position]

    def _take(self) -> str:
        self._position += 1
        return self._tokens[self._position - 1]

    def sum(self) -> complex:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError("too deep")
        total = self._product()
        while self._lookahead in ("+", "-"):
            if self._take() == "+":
                total += self._product()
            else:
                total -= self._product()
        self._depth -= 1
        return total

    def _product(self) -> complex:
        sign = 1
        while self._lookahead in ("+", "-"):
            if self._take() == "-":
                sign = -sign
        after_number = self._lookahead[:1].isdigit()
        after_division = False
        result = sign * self._power()
        while True:
            if self._lookahead in ("*", "\\cdot", "\\times"):
                self._take()
                result *= self._power()
                after_division = False
                after_number = False
            elif self._lookahead == "/":
                self._take()
                result /= self._power()
                after_division = True
                after_number = False
            elif self._lookahead and self._lookahead not in "+-)}]":
                if after_division or (after_number and self._lookahead == "\\frac"):
                    raise ValueError("ambiguous")
                result *= self._power()
                after_number = False
            else:
                return result

    def _power(self) -> complex:
        base = self._atom()
        if self._lookahead != "^":
            return base
        self._take()
        exponent = self._atom()
        if abs(exponent) > 1000 or self._lookahead == "^":
            raise ValueError("too large")
        return complex(base**exponent)

    def _atom(self) -> complex:
        token = self._take()
        if token in _CLOSING:
            group = self.sum()
            if self._take() != _CLOSING[token]:
                raise ValueError("unbalanced")
            return group
        if token.startswith("\\"):
            return self._command(token)
        if token[:1].isdigit() or token[:1] == ".":
            return complex(float(token))
        return _named_value(token)

    def _command(self, name: str) -> complex:
        if name == "\\frac":
            return self._group() / self._group()
        if name == "\\sqrt":
            index = self._atom() if self._lookahead == "[" else 2
            radicand = self._group()
            if index != 2 and (radicand.imag or radicand.real < 0):
                raise ValueError("which root")
            return complex(radicand ** (1 / index))
        if name in _FUNCTIONS and self._lookahead in ("(", "{"):
            return _FUNCTIONS[name](self._atom())
        return _named_value(name)

    def _group(self) -> complex:
        if self._lookahead != "{":
            raise ValueError("no group")
        return self._atom()


def _named_value(name: str) -> complex:
    """A constant's value; a letter's from 1 to 2, so that roots and powers of it are real."""
    if name in _CONSTANTS:
        return complex(_CONSTANTS[name])
    if not name.isalpha() and not _GREEK.fullmatch(name):
        raise ValueError(name)
    return complex(1 + sum(map(ord, name)) * 0.6180339887 % 1)
