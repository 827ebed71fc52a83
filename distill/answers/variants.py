r"""Other ways to write a maths gold, and answers that differ from it: what a sound gold must accept and refuse."""

from __future__ import annotations

import re
from fractions import Fraction

from distill.answers import latex, quantities, structure, symbols
from distill.answers.numbers import number
from distill.types import Examples

_CHOICE = re.compile(r"\(?[A-J]\)?|\\text(?:bf)?\{\s*\(?[A-J]\)?\s*\}")
_RELATION = re.compile(r"=|<|>|\\le|\\ge|\\ne|\\in(?![a-zA-Z])|\\equiv")
_LETTERS = "ABCDEFGHIJ"
_WORD = re.compile(r"(?<![\\a-zA-Z])[^\W\d_]{3,}|[\u4e00-\u9fff]")
_LONGEST_TEXT = 12
"""Words (Chinese characters); what is longer is a sentence, and no answer but its own copy would match it."""


def for_gold(gold: str) -> Examples:
    """Examples for a gold of `math`; all are decided without the library, so that they cost microseconds."""
    quantity = quantities.read_quantity(symbols.latex(gold))
    plain = latex.normalised(quantity.value if quantity else gold)
    value = number(plain)
    if value is not None:
        type_name = "quantity" if quantity else number_type(gold)
        larger = _decimal(value + 1) or f"{value + 1}"
        return Examples(type_name, [gold, *_numbers(value)], [larger, f"{-value - 1}"])
    if _CHOICE.fullmatch(gold.strip()):
        letter = next(char for char in gold if char in _LETTERS)
        next_letter = _LETTERS[(_LETTERS.index(letter) + 1) % len(_LETTERS)]
        return Examples("choice", [gold, letter, f"({letter})"], [next_letter])
    if len(_WORD.findall(gold)) > _LONGEST_TEXT:
        return Examples("prose", [gold], [])
    if latex.is_words(plain):
        shouted = gold if "{" in gold else gold.upper()
        return Examples("text", [gold, f" {shouted}."], [f"not{plain}"])
    return _formula(gold, plain, structure.read(plain), "quantity" if quantity else "expression")


def _formula(gold: str, plain: str, shape: structure.AnswerShape | None, type_name: str) -> Examples:
    spellings = [gold, _spaced(gold), gold.replace("\\frac", "\\dfrac"), gold.replace("\\dfrac", "\\frac")]
    if shape and shape.ordered:
        return Examples(_ordered_type(shape.kind), [*spellings, _sized(gold)], _changed(plain, shape))
    if shape:
        if shape.kind == "list" and "\\ldots" not in plain:
            spellings.append(", ".join(reversed(shape.parts)))
        return Examples(shape.kind, spellings, _changed(plain, shape))
    if _RELATION.search(plain):
        return Examples("equation" if "=" in plain else "relation", spellings, [])
    return Examples(type_name, [*spellings, f"${gold}$"], [])


def _ordered_type(kind: str) -> str:
    if "matrix" in kind:
        return "matrix"
    return "tuple" if kind == "()" else "interval"


def number_type(gold: str) -> str:
    """`integer`, `percent`, `decimal` or `fraction`, by how the number is written."""
    if "%" in gold:
        return "percent"
    if "frac" in gold or "/" in gold:
        return "fraction"
    if "." in gold.rstrip(". \n") or "10^" in gold or "e" in gold:
        return "decimal"
    return "integer"


def _numbers(value: Fraction) -> list[str]:
    """A number in the ways that people write it."""
    spellings = [f"${value}$"]
    if value.denominator == 1 and abs(value) < 10**15:
        spellings += [f"{value}.0", f"{int(value):,}", f"{int(value):,}".replace(",", "{,}")]
    elif value.denominator > 1:
        sign = "-" if value < 0 else ""
        size = abs(value)
        spellings.append(f"{sign}\\dfrac{{{size.numerator}}}{{{size.denominator}}}")
        decimal = _decimal(value)
        if decimal:
            spellings.append(decimal)
    return spellings


def _decimal(value: Fraction) -> str | None:
    """The exact decimal, where there is a short one."""
    sign = "-" if value < 0 else ""
    for places in range(16):
        if (value * 10**places).denominator == 1:
            digits = f"{abs(int(value * 10**places)):0{places + 1}}"
            return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)
    return None


def _spaced(gold: str) -> str:
    return re.sub(r"(?<=[,;=+])(?![\s\\]|\d{3}(?!\d))", " ", gold)


def _sized(gold: str) -> str:
    r"""Brackets that grow with what they hold: `\left( … \right)` for `( … )`, or the other way round."""
    if "\\left" in gold:
        return gold.replace("\\left", "").replace("\\right", "")
    text = gold.strip()
    if text[:1] in "([" and text[-1:] in ")]":
        return f"\\left{text[0]}{text[1:-1]}\\right{text[-1]}"
    return gold


def _changed(plain: str, shape: structure.AnswerShape) -> list[str]:
    """The answer with its first number one larger; nothing without a number among its parts."""
    for part in shape.parts:
        value = number(part)
        if value is not None and plain.count(part) == 1:
            return [plain.replace(part, str(value + 1))]
    return []
