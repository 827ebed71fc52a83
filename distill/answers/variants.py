r"""Other ways to write a maths gold, and answers that differ from it: what a sound gold must accept and refuse."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from distill.answers import latex, quantities, structure, symbols
from distill.answers.numbers import number

_CHOICE = re.compile(r"\(?[A-J]\)?|\\text(?:bf)?\{\s*\(?[A-J]\)?\s*\}")
_RELATION = re.compile(r"=|<|>|\\le|\\ge|\\ne|\\in(?![a-zA-Z])|\\equiv")
_LETTERS = "ABCDEFGHIJ"
_WORD = re.compile(r"(?<![\\a-zA-Z])[^\W\d_]{3,}|[\u4e00-\u9fff]")
_LONGEST_TEXT = 12
"""Words (Chinese characters); what is longer is a sentence, and no answer but its own copy would match it."""


class Examples(NamedTuple):
    type: str
    right: list[str]
    """Equal answers, the gold as it stands first."""
    wrong: list[str]
    """Different ones; none where refusing takes algebra."""


def of(gold: str) -> Examples:
    """Examples for a gold of `math`; all are decided without the library, so that they cost microseconds."""
    quantity = quantities.split(symbols.latex(gold))
    plain = latex.normal(quantity.value if quantity else gold)
    value = number(plain)
    if value is not None:
        name = "quantity" if quantity else number_type(gold)
        return Examples(name, [gold, *_numbers(value)], [_decimal(value + 1) or f"{value + 1}", f"{-value - 1}"])
    if _CHOICE.fullmatch(gold.strip()):
        letter = next(char for char in gold if char in _LETTERS)
        other = _LETTERS[(_LETTERS.index(letter) + 1) % len(_LETTERS)]
        return Examples("choice", [gold, letter, f"({letter})"], [other])
    if len(_WORD.findall(gold)) > _LONGEST_TEXT:
        return Examples("prose", [gold], [])
    if latex.words(plain):
        return Examples("text", [gold, f" {gold.upper() if '{' not in gold else gold}."], [f"not{plain}"])
    return _formula(gold, plain, structure.read(plain), "quantity" if quantity else "expression")


def _formula(gold: str, plain: str, shape: structure.Shape | None, name: str) -> Examples:
    looks = [gold, _spaced(gold), gold.replace("\\frac", "\\dfrac"), gold.replace("\\dfrac", "\\frac")]
    if shape and shape.ordered:
        name = "matrix" if "matrix" in shape.kind else "tuple" if shape.kind == "()" else "interval"
        return Examples(name, [*looks, _sized(gold)], _changed(plain, shape))
    if shape:
        turned = [", ".join(reversed(shape.parts))] if shape.kind == "list" and "\\ldots" not in plain else []
        return Examples(shape.kind, looks + turned, _changed(plain, shape))
    if _RELATION.search(plain):
        return Examples("equation" if "=" in plain else "relation", looks, [])
    return Examples(name, [*looks, f"${gold}$"], [])


def number_type(gold: str) -> str:
    """`integer`, `percent`, `decimal` or `fraction`, by how it is written."""
    if "%" in gold:
        return "percent"
    if "frac" in gold or "/" in gold:
        return "fraction"
    return "decimal" if "." in gold.rstrip(". \n") or "10^" in gold or "e" in gold else "integer"


def _numbers(value: Fraction) -> list[str]:
    """A number in the ways that people write it."""
    found = [f"${value}$"]
    if value.denominator == 1 and abs(value) < 10**15:
        found += [f"{value}.0", f"{int(value):,}", f"{int(value):,}".replace(",", "{,}")]
    elif value.denominator > 1:
        sign, size = ("-" if value < 0 else ""), abs(value)
        found += [f"{sign}\\dfrac{{{size.numerator}}}{{{size.denominator}}}"]
        found += [decimal] if (decimal := _decimal(value)) else []
    return found


def _decimal(value: Fraction) -> str | None:
    """The exact decimal, where there is a short one."""
    for digits in range(16):
        if (value * 10**digits).denominator == 1:
            whole = f"{abs(int(value * 10**digits)):0{digits + 1}}"
            return ("-" if value < 0 else "") + (f"{whole[:-digits]}.{whole[-digits:]}" if digits else whole)
    return None


def _spaced(gold: str) -> str:
    return re.sub(r"(?<=[,;=+])(?![\s\\]|\d{3}(?!\d))", " ", gold)


def _sized(gold: str) -> str:
    r"""Brackets that grow with what they hold: `\left( … \right)` for `( … )`, or the other way round."""
    if "\\left" in gold:
        return gold.replace("\\left", "").replace("\\right", "")
    text = gold.strip()
    return f"\\left{text[0]}{text[1:-1]}\\right{text[-1]}" if text[:1] in "([" and text[-1:] in ")]" else gold


def _changed(plain: str, shape: structure.Shape) -> list[str]:
    """The same with its first number one larger; none without a number among its parts."""
    for part in shape.parts:
        if (value := number(part)) is not None and plain.count(part) == 1:
            return [plain.replace(part, str(value + 1))]
    return []
