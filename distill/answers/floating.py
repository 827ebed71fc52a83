r"""Values of closed formulas in floating point, to tell quickly that two are different.

Letters get fixed values, so that two formulas which mean the same have the same value; equal values prove nothing, and
a formula with anything unknown or ambiguous (`1/2x`, `\log`, `2\frac12`) has none.
"""

from __future__ import annotations

import cmath
import re

_TOKEN = re.compile(r"\d+(?:\.\d+)?|\.\d+|\\[a-zA-Z]+|[a-zA-Z]|[-+*/^(){}\[\]]")
_KNOWN = {"e": cmath.e, "i": 1j, "\\pi": cmath.pi}
_FUNCTIONS = {"\\sin": cmath.sin, "\\cos": cmath.cos, "\\tan": cmath.tan, "\\ln": cmath.log, "\\exp": cmath.exp}
_CLOSING = {"(": ")", "{": "}", "[": "]"}
_GREEK = re.compile(r"\\(?:alpha|beta|gamma|delta|theta|lambda|mu|omega|phi|psi|rho|sigma|tau)")
# words, and a number with what may be a unit
_UNSURE = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{3,}|^[-+]?[\d.,]+\s?[a-zA-Z]{1,2}$")
_LONGEST, _DEEPEST, _HUGE = 300, 30, 1e100


def different(left: str, right: str) -> bool:
    """Whether two normalised formulas surely have different values."""
    values = value(left), value(right)
    if values[0] is None or values[1] is None:
        return False
    return abs(values[0] - values[1]) > 1e-6 * max(abs(values[0]), abs(values[1]), 1e-12)


def value(text: str) -> complex | None:
    """The value of a formula, or None where it has none that is sure."""
    if len(text) > _LONGEST or _UNSURE.search(text):
        return None
    tokens = _TOKEN.findall(text)
    if not tokens or "".join(tokens) != "".join(text.split()):
        return None
    try:
        reader = _Reader(tokens)
        found = complex(reader.sum())
        return found if reader.done and abs(found) < _HUGE else None
    except (ValueError, ArithmeticError, IndexError):
        return None


class _Reader:
    """Recursive descent; every method takes its tokens and raises ValueError at what it does not know."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens, self._place, self._depth = [*tokens, ""], 0, 0

    @property
    def done(self) -> bool:
        return self._next == ""

    @property
    def _next(self) -> str:
        return self._tokens[self._place]

    def _take(self) -> str:
        self._place += 1
        return self._tokens[self._place - 1]

    def sum(self) -> complex:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError("too deep")
        total = self._product()
        while self._next in ("+", "-"):
            total += self._product() if self._take() == "+" else -self._product()
        self._depth -= 1
        return total

    def _product(self) -> complex:
        sign = 1
        while self._next in ("+", "-"):
            sign = -sign if self._take() == "-" else sign
        number = self._next[:1].isdigit()
        result, divided = sign * self._power(), False
        while True:
            if self._next in ("*", "\\cdot", "\\times"):
                self._take()
                result *= self._power()
                divided = number = False
            elif self._next == "/":
                self._take()
                result /= self._power()
                divided, number = True, False
            elif self._next and self._next not in "+-)}]":
                if divided or (number and self._next == "\\frac"):
                    raise ValueError("ambiguous")
                result *= self._power()
                number = False
            else:
                return result

    def _power(self) -> complex:
        base = self._atom()
        if self._next != "^":
            return base
        self._take()
        exponent = self._atom()
        if abs(exponent) > 1000 or self._next == "^":
            raise ValueError("too large")
        return complex(base**exponent)

    def _atom(self) -> complex:
        part = self._take()
        if part in _CLOSING:
            inside = self.sum()
            if self._take() != _CLOSING[part]:
                raise ValueError("unbalanced")
            return inside
        if part.startswith("\\"):
            return self._command(part)
        if part[:1].isdigit() or part[:1] == ".":
            return complex(float(part))
        return complex(_KNOWN[part]) if part in _KNOWN else _letter(part)

    def _command(self, name: str) -> complex:
        if name == "\\frac":
            return self._group() / self._group()
        if name == "\\sqrt":
            index = self._atom() if self._next == "[" else 2
            radicand = self._group()
            if index != 2 and (radicand.imag or radicand.real < 0):
                raise ValueError("which root")
            return complex(radicand ** (1 / index))
        if name in _FUNCTIONS and self._next in ("(", "{"):
            return _FUNCTIONS[name](self._atom())
        return complex(_KNOWN[name]) if name in _KNOWN else _letter(name)

    def _group(self) -> complex:
        if self._next != "{":
            raise ValueError("no group")
        return self._atom()


def _letter(name: str) -> complex:
    """A value from 1 to 2, so that roots and powers of it are real."""
    if not name.isalpha() and not _GREEK.fullmatch(name):
        raise ValueError(name)
    return complex(1 + sum(map(ord, name)) * 0.6180339887 % 1)
