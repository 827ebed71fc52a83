"""Strings that mean the same: what `math` knows of LaTeX before it asks the library, and what the library overlooks."""

from __future__ import annotations

import re
from functools import lru_cache

from distill.answers import floating, structure, symbols
from distill.answers.numbers import number

LONGEST = 1000
_DROPPED = re.compile(
    r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|limits)(?![a-zA-Z])|(?<!\\)\\[!;: ()]|~|(?<!\\)\$|\\(?=\$)"
)
_SPACES = re.compile(r"\\q?quad|\\,|\\(?:h|v)space\{[^{}]*\}")
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm|sf|tt)?|mathrm|mathbf|mathsf|mathit|mbox|rm|bf|operatorname)\s*\{([^{}]*)\}")
_WORDS = re.compile(r"[Nn]o|[^\W\d_]{3,}(?:[\s'-]+[^\W\d_]+)*")
_ARTICLE = re.compile(r"(?:the|an?)\s+", re.IGNORECASE)
_FRAC = re.compile(r"\\frac\s*(\{[^{}]*\}|[0-9a-zA-Z])\s*(\{[^{}]*\}|[0-9a-zA-Z])")
_ROOT = re.compile(r"\\sqrt\s*([0-9a-zA-Z])")
_LONE = re.compile(r"([\^_])\s*\{\s*(\w|\\circ|\\prime)\s*\}")
_JOIN = re.compile(r"[,;\s]*(?<![a-zA-Z\\])(?:and|or|和|或)(?![a-zA-Z])[,;\s]*")
_GLUED = re.compile(r"(?<=\d)\s*(?:,\s*\\!\s*|\{,\}|,\{\})(?=\d)")
_LISTED = re.compile(r"(?<=\d),\s+(?=\d{3}(?!\d))")
_PERCENT = re.compile(r"\s*(?:%|\bpct|\bpercent)$")
_COMMAND = re.compile(r"(\\[a-zA-Z]+)\s+(?=[a-zA-Z])")
_CLOCK = re.compile(r"(\d{1,2}):00")
_LABEL = re.compile(r"[\s$]*[a-zA-Z](?:_\{?\w+\}?)?\s*=([^=<>]+)")
_INEQUALITY = re.compile(r"[^<>=]*(?:(?<!-)[<>]=?|\\(?:le|ge|ne)(?![a-zA-Z]))[^<>=]*")
_SEVERAL = re.compile(r"[,;]|(?<![a-zA-Z])(?:and|or)(?![a-zA-Z])")
_BASE = re.compile(r"[0-9A-Fa-f]+_\{?(\d+)\}?")
_SAME = {"\\leqslant": "\\le", "\\leq": "\\le", "\\geqslant": "\\ge", "\\geq": "\\ge", "\\neq": "\\ne", "\\lt": "<"}
_SAME |= {"\\gt": ">", "\\varnothing": "\\emptyset", "\\dots": "\\ldots", "\\cdots": "\\ldots"}
_NAMES = re.compile(r"\\(?:leqslant|leq|geqslant|geq|neq|lt|gt|varnothing|dots|cdots)(?![a-zA-Z])")

# numbers whose size explodes: a tower of exponents, a huge exponent, the factorial of a large number or of a factorial
_BOMB = re.compile(r"\^\s*\{?\s*\(?\s*\d+\s*\}?\s*\)?\s*\^|\^\s*\{?\s*\d{7,}|\d{5,}\s*\)?\s*!|!\s*!")


@lru_cache(1 << 14)
def normal(text: str) -> str:
    """LaTeX without what changes only its looks; blanks, and the case of bare words, do not count either."""
    plain = symbols.latex(text)
    plain = _GLUED.sub(",", plain)
    plain = _TEXT.sub(r" \1 ", _SPACES.sub(" ", _DROPPED.sub("", plain)))
    plain = plain.replace("\\%", "%").strip(" \n*").rstrip("\\. ")
    plain = _PERCENT.sub("%", plain)
    plain = re.sub(r"^\[\s*([-+]?[\d.]+)\s*\]$", r"\1", plain)  # a list of one number
    if _WORDS.fullmatch(
        plain
    ):  # bare words keep no case; all other text may be a product of letters, whose case counts
        return "".join(_ARTICLE.sub("", plain, count=1).casefold().split())
    if "\\" in plain or "{" in plain:
        plain = plain.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\cfrac", "\\frac")
        plain = _FRAC.sub(lambda found: f"\\frac{{{found[1].strip('{}')}}}{{{found[2].strip('{}')}}}", plain)
        plain = _LONE.sub(r"\1\2", _ROOT.sub(r"\\sqrt{\1}", plain)).replace("^\\prime", "'")
        plain = _NAMES.sub(lambda found: _SAME[found[0]], plain)
    plain = _JOIN.sub(", ", plain)
    plain = re.sub(r"(?<=\d)\s+(?=\d)(?!\d{3}(?!\d))", "_", plain)  # a blank groups thousands; else it parts numbers
    plain = _LISTED.sub(";", plain)  # "3, 500" is two numbers, "3,500" is one
    return "".join(_COMMAND.sub("\\1\0", plain).split()).replace("\0", " ")


def decide(left: str, right: str) -> bool | None:
    """The verdict of strings, exact fractions and parts on two normalised answers; None where it takes algebra."""
    values = number(left), number(right)
    if values[0] is not None and values[1] is not None:
        return values[0] == values[1]
    if left == right or left.split("=") == right.split("=")[::-1]:
        return True
    if "..." in left + right or "\\ldots" in left + right:
        return None
    range_and_number = values != (None, None) and any(map(_INEQUALITY.fullmatch, (left, right)))
    if range_and_number or conflict(left, right):
        return False
    shapes = structure.read(left), structure.read(right)
    if shapes[0] and shapes[1]:
        return structure.same(shapes[0], shapes[1], decide)
    by_parts = _one_sided(left, right) if shapes[0] or shapes[1] else None
    return False if by_parts is None and floating.different(left, right) else by_parts


def unlabelled(gold: str, other: str) -> tuple[str, str]:
    """`x=5` names 5, and a chain of equalities ends in its value, where the other side is no equation."""
    sides = [gold, other]
    for place, (text, opposite) in enumerate([(gold, other), (other, gold)]):
        if "=" in text and "=" not in opposite and not _SEVERAL.search(text):
            label = _LABEL.fullmatch(text)
            sides[place] = text.rpartition("=")[2] if text.count("=") > 1 else label[1] if label else text
    return sides[0], sides[1]


def _one_sided(left: str, right: str) -> bool | None:
    """One side has parts: an inequality may be an interval, but no number is several."""
    intervals = structure.interval(left), structure.interval(right)
    if intervals != (left, right):
        return decide(*intervals)
    several = any(shape and len(shape.parts) > 1 for shape in (structure.read(left), structure.read(right)))
    return False if several and (number(left) is not None or number(right) is not None) else None


def words(text: str) -> bool:
    """Whether it is words and no formula."""
    return bool(_WORDS.fullmatch(text))


def conflict(gold: str, other: str) -> str:
    """What differs between unequal normalised answers though math-verify would overlook it; empty if nothing does."""
    if _WORDS.fullmatch(gold) and _WORDS.fullmatch(other):
        return "words"  # to the library "dog" and "god" are the same product
    bases = _BASE.fullmatch(gold), _BASE.fullmatch(other)
    return "base" if bases[0] and bases[1] and bases[0][1] != bases[1][1] else ""


def clock(text: str) -> str:
    """A full hour is its number."""
    found = _CLOCK.fullmatch(text)
    return found[1] if found else text


def explosive(text: str) -> bool:
    """Whether evaluating the text may take for ever."""
    return bool(_BOMB.search(text))
