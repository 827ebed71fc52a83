"""Strings that mean the same: what `math` knows of LaTeX before it asks the library, and what the library overlooks."""

from __future__ import annotations

import re

from distill.chat import last_boxed
from distill.verifiers._answer import marked, stated

_DROPPED = re.compile(r"\\(?:left|right|[bB]ig|displaystyle|q?quad)(?![a-zA-Z])|\\[!;: ]|~|(?<!\\)\$|\\(?=\$)")
_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_WORDS = re.compile(r"[Nn]o|[^\W\d_]{3,}(?:\s+[^\W\d_]+)*")
_PERCENT = re.compile(r"[\s$]*(?:\\?%|pct\b|percent\b)")
_STATED = re.compile(r"answer(?:\s+is\b)?\s*:?\s*([^\s:][^\n]{0,60})$", re.IGNORECASE)
_JOINED = re.compile(r"\\boxed\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}(?:[\s$,]|\\q?quad|\\text\{\s*and\s*\}|and)*")
CODE = re.compile(r"__\w+__")  # Python's innards, from which the library would still pick a number
_UNIT = re.compile(r"[-+]?[\d.,/]+(mm|cm|dm|km|m|mg|kg|g|ms|s|min|h|ml|l)")
_BASE = re.compile(r"[0-9A-Fa-f]+_\{?(\d+)\}?")
_BRACKETS = re.compile(r"(\\?[{(\[])[^(){}\[\]]*,[^(){}\[\]]*?(\\?[)}\]])")

_LONGEST_TEXT = 8000

# numbers whose size explodes: a tower of exponents, the factorial of a large number or of a factorial
_BOMB = re.compile(r"\^\s*\{?\s*\(?\s*\d+\s*\}?\s*\)?\s*\^|\d{5,}\s*\)?\s*!|!\s*!")
_EXPONENT = re.compile(r"\^\s*\{?\s*(\d{2,})")


def normal(text: str) -> str:
    """LaTeX without what changes only its looks; blanks, and the case of bare words, do not count either."""
    plain = _TEXT.sub(r"\1", _DROPPED.sub("", text)).replace("dfrac", "frac").replace("tfrac", "frac")
    plain = plain.replace("−", "-").replace("{,}", ",").replace("\\,", " ").replace("\\%", "%")
    plain = plain.strip(" \n*").rstrip("\\. ")
    plain = re.sub(r"\s*(?:%|\bpct|\bpercent)$", "%", plain)
    plain = re.sub(r"^\[\s*([-+]?[\d.]+)\s*\]$", r"\1", plain)  # a list of one number
    plain = re.sub(r"(?<=\d)\s+(?=\d)(?!\d{3}(?!\d))", "_", plain)  # a blank groups thousands; else it parts numbers
    # bare words keep their blanks; all other text may be a product of letters, whose case counts
    return " ".join(plain.casefold().split()) if _WORDS.fullmatch(plain) else "".join(plain.split())


def answer(text: str, percent: bool = False) -> tuple[str, bool]:
    r"""What counts of a text, and whether it is known to be the answer alone (marked, short, or said to be it).

    Of a tag that holds a box it is the box. Boxes that only "and" or a comma joins are one answer. With `percent`
    a percent sign behind the box belongs to it.
    """
    if not marked(text):
        said = _STATED.search(text.strip())
        rest = said[1] if said else text.strip()[-_LONGEST_TEXT:]  # a final answer stands at the end
        return rest, formula(rest)
    inner = stated(text)
    source = text if last_boxed(text) is not None and "<answer>" not in text else inner
    last = last_boxed(source)
    if last is None:
        return _exact(inner), True
    joined = [match for match in _JOINED.finditer(source) if match[1].strip()]
    first = len(joined) - 1
    while first > 0 and joined[first - 1].end() == joined[first].start():
        first -= 1
    if joined and joined[-1][1] == last and first < len(joined) - 1:
        return ", ".join(match[1].strip() for match in joined[first:]), True
    behind = source.rpartition(last + "}")[2]
    return _exact(last) + ("\\%" if percent and _PERCENT.match(behind) else ""), True


def _exact(text: str) -> str:
    """`\\frac{1}{3} \\approx 0.333` states the exact value first."""
    return re.split(r"\\approx\b|≈", text)[0].strip() or text.strip()


def formula(text: str) -> bool:
    r"""Whether a bare text is one formula: short and without words other than LaTeX commands and function names."""
    plain = re.sub(r"\\[a-zA-Z]+|\b(?:sqrt|sin|cos|tan|log|exp|pct|percent)\b", "", _TEXT.sub("", text))
    return len(text) <= 200 and "\n" not in text and not re.search(r"[^\W\d_]{3,}|__", plain)


def conflict(gold: str, other: str) -> str:
    """What differs between unequal normalised answers though math-verify would overlook it; empty if nothing does."""
    if _WORDS.fullmatch(gold) and _WORDS.fullmatch(other):
        return "words"  # to the library "dog" and "god" are the same product
    for what, pattern in (("unit", _UNIT), ("base", _BASE), ("brackets", _BRACKETS)):
        left, right = pattern.fullmatch(gold), pattern.fullmatch(other)
        if left and right and left.groups() != right.groups():
            return what
    return ""


def explosive(text: str) -> bool:
    """Whether evaluating the text may take for ever."""
    return bool(_BOMB.search(text)) or sum(map(len, _EXPONENT.findall(text))) > 8


def boxed(text: str) -> str:
    r"""An answer as the library reads it best: in `\boxed{}`."""
    inner = re.sub(r"(?<!\\)\bsqrt\(([^()]*)\)", r"\\sqrt{\1}", text.strip().strip("$").strip().replace("−", "-"))
    # several formulas in prose ("$1$ and $2$") are found as they stand
    return text if "$" in inner.replace("\\$", "") else f"\\boxed{{{inner}}}"
