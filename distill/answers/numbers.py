r"""Numbers as they are written: `1,234.5`, `3/4`, `\frac{3}{4}`, `1\frac{1}{2}`, `1.2e3`, `1.2 \times 10^3`, `12%`."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

_PLAIN = r"(?:[0-9]{1,3}(?:[, ][0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_POWER = re.compile(r"(.*?)(?:^| ?(?:\\times|\\cdot|\*|x) ?)10 ?\^ ?(?:\{ ?([-+]?[0-9]{1,3}) ?\}|([-+]?[0-9]{1,3}))")
_NUMBER = re.compile(rf"({_PLAIN})(?:\s*/\s*({_PLAIN})|[eE]([-+]?[0-9]{{1,3}}))?(%?)")
_FRACTION = re.compile(r"([0-9]*) ?\\[dt]?frac ?(?:([0-9])|\{(-?[0-9]+)\}) ?(?:([0-9])|\{(-?[0-9]+)\})(%?)")
_LONGEST = 200


@lru_cache(1 << 14)
def number(text: str) -> Fraction | None:
    """The exact value of a number that is the whole text, or None."""
    text = text.strip().strip("$*").strip().replace("−", "-")
    text = text.replace("{,}", ",").replace("\\,", " ").replace("\\%", "%").removesuffix(".")
    text = re.sub(r"^([-+]?)\s*\\?\$\s*", r"\1", text)
    if len(text) > _LONGEST or not text:
        return None
    sign = -1 if text[0] == "-" else 1
    value = _unsigned(text[1:].lstrip() if text[0] in "+-" else text)
    if value is None:
        return None
    return sign * value


def _unsigned(text: str) -> Fraction | None:
    if match := _NUMBER.fullmatch(text):
        numerator, denominator, exponent, percent = match.groups()
        divisor = _plain(denominator) if denominator else Fraction(1)
        if not divisor:
            return None
        value = _plain(numerator) * Fraction(10) ** int(exponent or 0) / divisor
    elif match := _FRACTION.fullmatch(text):
        whole, *numerals, percent = match.groups()
        numerator, denominator = (int(digit or braced) for digit, braced in (numerals[:2], numerals[2:]))
        mixed_signs = whole and (numerator < 0 or denominator < 0)  # 2\frac{-1}{3} is no mixed number
        if mixed_signs or not denominator:
            return None
        value = int(whole or 0) + Fraction(numerator, denominator)
    elif match := _POWER.fullmatch(text):
        percent = ""
        factor = _unsigned(match[1]) if match[1] else Fraction(1)
        if factor is None:
            return None
        value = factor * Fraction(10) ** int(match[2] or match[3])
    else:
        return None
    return value / 100 if percent else value


def _plain(text: str) -> Fraction:
    return Fraction(text.replace(",", "").replace(" ", ""))
