"""Strings that mean the same: what `math` knows of LaTeX before it asks the library, and what the library overlooks."""

from __future__ import annotations

import re
from functools import lru_cache

from distill.answers import floating, structure, symbols
from distill.answers.numbers import number

LONGEST = 1000
_LOOKS = re.compile(
    r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|limits)(?![a-zA-Z])|(?<!\\)\\[!;: ()]|~|(?<!\\)\$|\\(?=\$)"
)
_SPACES = re.compile(r"\\q?quad|\\,|\\(?:h|v)space\{[^{}]*\}")
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm|sf|tt)?|mathrm|mathbf|mathsf|mathit|mbox|rm|bf|operatorname)\s*\{([^{}]*)\}")
_WORDS = re.compile(r"[Nn]o|[^\W\d_]{3,}(?:[\s'-]+[^\W\d_]+)*")
_ARTICLE = re.compile(r"(?:the|an?)\s+", re.IGNORECASE)
_FRAC = re.compile(r"\\frac\s*(\{[^{}]*\}|[0-9a-zA-Z])\s*(\{[^{}]*\}|[0-9a-zA-Z])")
_ROOT = re.compile(r"\\sqrt\s*([0-9a-zA-Z])")
_SINGLE_SCRIPT = re.compile(r"([\^_])\s*\{\s*(\w|\\circ|\\prime)\s*\}")
_JOIN = re.compile(r"[,;\s]*(?<![a-zA-Z\\])(?:and|or|和|或)(?![a-zA-Z])[,;\s]*")
_GROUP_COMMA = re.compile(r"(?<=\d)\s*(?:,\s*\\!\s*|\{,\}|,\{\})(?=\d)")
_LIST_COMMA = re.compile(r"(?<=\d),\s+(?=\d{3}(?!\d))")
_PERCENT = re.compile(r"\s*(?:%|\bpct|\bpercent)$")
_COMMAND = re.compile(r"(\\[a-zA-Z]+)\s+(?=[a-zA-Z])")
_CLOCK = re.compile(r"(\d{1,2}):00")
_LABEL = re.compile(r"[\s$]*[a-zA-Z](?:_\{?\w+\}?)?\s*=([^=<>]+)")
_INEQUALITY = re.compile(r"[^<>=]*(?:(?<!-)[<>]=?|\\(?:le|ge|ne)(?![a-zA-Z]))[^<>=]*")
_SEPARATOR = re.compile(r"[,;]|(?<![a-zA-Z])(?:and|or)(?![a-zA-Z])")
_BASE = re.compile(r"[0-9A-Fa-f]+_\{?(\d+)\}?")
_SYNONYMS = {"\\leqslant": "\\le", "\\leq": "\\le", "\\geqslant": "\\ge", "\\geq": "\\ge", "\\neq": "\\ne", "\\lt": "<"}
_SYNONYMS |= {"\\gt": ">", "\\varnothing": "\\emptyset", "\\dots": "\\ldots", "\\cdots": "\\ldots"}
_SYNONYM = re.compile(r"\\(?:leqslant|leq|geqslant|geq|neq|lt|gt|varnothing|dots|cdots)(?![a-zA-Z])")

# numbers whose size explodes: a tower of exponents, a huge exponent, the factorial of a large number or of a factorial
_BOMB = re.compile(r"\^\s*\{?\s*\(?\s*\d+\s*\}?\s*\)?\s*\^|\^\s*\{?\s*\d{7,}|\d{5,}\s*\)?\s*!|!\s*!")


@lru_cache(1 << 14)
def normalised(text: str) -> str:
    """LaTeX without what changes only its looks, without blanks, and bare words without their case."""
    plain = symbols.latex(text)
    plain = _GROUP_COMMA.sub(",", plain)
    plain = _TEXT.sub(r" \1 ", _SPACES.sub(" ", _LOOKS.sub("", plain)))
    plain = plain.replace("\\%", "%").strip(" \n*").rstrip("\\. ")
    plain = _PERCENT.sub("%", plain)
    plain = re.sub(r"^\[\s*([-+]?[\d.]+)\s*\]$", r"\1", plain)  # a list of one number
    if _WORDS.fullmatch(plain):  # bare words keep no case; other text may be a product of letters, whose case counts
        return "".join(_ARTICLE.sub("", plain, count=1).casefold().split())
    if "\\" in plain or "{" in plain:
        plain = plain.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\cfrac", "\\frac")
        plain = _FRAC.sub(lambda match: f"\\frac{{{match[1].strip('{}')}}}{{{match[2].strip('{}')}}}", plain)
        plain = _SINGLE_SCRIPT.sub(r"\1\2", _ROOT.sub(r"\\sqrt{\1}", plain)).replace("^\\prime", "'")
        plain = _SYNONYM.sub(lambda match: _SYNONYMS[match[0]], plain)
    plain = _JOIN.sub(", ", plain)
    plain = re.sub(r"(?<=\d)\s+(?=\d)(?!\d{3}(?!\d))", "_", plain)  # a blank groups thousands; else it parts numbers
    plain = _LIST_COMMA.sub(";", plain)  # "3, 500" is two numbers, "3,500" is one
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
        return structure.same_parts(shapes[0], shapes[1], decide)
    verdict = _one_sided(left, right) if shapes[0] or shapes[1] else None
    if verdict is None and floating.surely_differ(left, right):
        verdict = False
    return verdict


def unlabelled(gold: str, answer: str) -> tuple[str, str]:
    """`x=5` names 5, and a chain of equalities ends in its value, where the other side is no equation."""
    sides = [gold, answer]
    for index, (side, opposite) in enumerate([(gold, answer), (answer, gold)]):
        if "=" in side and "=" not in opposite and not _SEPARATOR.search(side):
            sides[index] = _right_hand_side(side)
    return sides[0], sides[1]


def _right_hand_side(equation: str) -> str:
    if equation.count("=") > 1:
        return equation.rpartition("=")[2]
    label = _LABEL.fullmatch(equation)
    return label[1] if label else equation


def _one_sided(left: str, right: str) -> bool | None:
    """The verdict where one side has parts: an inequality may be an interval, but no number is several."""
    intervals = structure.as_interval(left), structure.as_interval(right)
    if intervals != (left, right):
        return decide(*intervals)
    several = any(shape and len(shape.parts) > 1 for shape in (structure.read(left), structure.read(right)))
    if several and (number(left) is not None or number(right) is not None):
        return False
    return None


def is_words(text: str) -> bool:
    """Whether a text is words and no formula."""
    return bool(_WORDS.fullmatch(text))


def conflict(gold: str, answer: str) -> str:
    """What differs between unequal normalised answers though math-verify would overlook it; empty if nothing does."""
    if _WORDS.fullmatch(gold) and _WORDS.fullmatch(answer):
        return "words"  # to the library "dog" and "god" are the same product
    bases = _BASE.fullmatch(gold), _BASE.fullmatch(answer)
    if bases[0] and bases[1] and bases[0][1] != bases[1][1]:
        return "base"
    return ""


def full_hour_number(text: str) -> str:
    """A full hour as its number, `5:00` as 5; other text as it is."""
    full_hour = _CLOCK.fullmatch(text)
    return full_hour[1] if full_hour else text


def is_explosive(text: str) -> bool:
    """Whether evaluating the text may take for ever."""
    return bool(_BOMB.search(text))
