r"""The final answer of a reply to a maths problem: what is tagged or boxed, else what it says at its end."""

from __future__ import annotations

import re

from distill.answers import quantities, symbols
from distill.models.chat import last_boxed, tagged

_PERCENT = re.compile(r"[\s$]*(?:\\?%|pct\b|percent\b)")
_STATED = re.compile(r"(?:\banswer(?:\s+is\b)?|答案?(?:是|为)?)\s*[:：]?[\s*]*([^\s:：*][^\n]{0,60})$", re.IGNORECASE)
_BETWEEN = re.compile(r"(?:[\s$,]|\\q?quad|\\text\{\s*and\s*\}|and)*")
_NOT_WORDS = re.compile(
    r"\\(?:begin|end)\{\w+\*?\}|\\(?:text\w*|mbox|mathrm|operatorname)\s*\{[^{}]*\}|\\[a-zA-Z]+"
    r"|\b(?:sqrt|sin|cos|tan|log|exp|pct|percent)\b"
)
_SAID = re.compile(
    r"(?:\\text\{\s*)?(?:(?:the\s+)?(?:final\s+)?answer\s*(?:is\b|[:：])|答案?(?:是|为|[:：]))\s*[:：]?\s*\}?\s*(?=[^\s}])",
    re.IGNORECASE,
)
_NAMES = re.compile(r"[A-Za-z]+\s*=\s*[A-Za-z]+")
_BRACES = re.compile(r"\\boxed\s*\{|(?<!\\)[{}]")
_LABEL = re.compile(r"\s*\**\s*(?:final\s+)?answer\s*\**\s*[:：]\s*\**\s*", re.IGNORECASE)
_MATH = re.compile(r"\$(\s?)([^\s$](?:[^$\n]*[^\s$=+*/-])?)\1\$|\\\((.+?)\\\)")
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")
_LONE = re.compile(
    r"(?<![A-Za-z0-9_.,/^{}\\+=*-])([-+]?\\?\$?(?:\d{1,3}(?:,(?:\\!)?\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?\s?(?:\\?%)?)(?![A-Za-z0-9_]|[.,/:^]\d)"
)
CODE = re.compile(r"__\w+__")  # Python's innards, from which the library would still pick a number
_TAIL = 4000
_LONG_GOLD = 120


def answer(text: str, percent: bool = False) -> tuple[str, bool]:
    r"""What counts of a text, and whether it is known to be the answer alone (marked, short, or said to be it).

    Of a tag that holds a box it is the box. Boxes that only "and" or a comma joins are one answer. With `percent`
    a percent sign behind the box belongs to it.
    """
    tags = tagged(text) if "<answer>" in text else []
    source = tags[-1] if tags else text
    last = last_boxed(source) if "boxed" in source else None
    if last is not None:
        return _boxed(source, last, percent), True
    if tags:
        return _exact(source.strip()), True
    tail = text.strip()[-_TAIL:]  # a final answer stands at the end
    said = _STATED.search(tail[-100:])
    for candidate in (said[1] if said else "", tail if len(tail) <= 200 else ""):
        if candidate and (formula(candidate) or quantities.split(candidate)):
            return candidate.strip(), True
    concluded = conclusion(tail)
    return (concluded, True) if concluded else (said[1] if said else tail, False)


def gold(text: str) -> str:
    """What counts of a gold: all of it, or the answer where it is a solution."""
    if "boxed" in text or "<answer>" in text or len(text) > _LONG_GOLD:
        return answer(text)[0].strip()
    said = _STATED.search(text.strip())
    return (said[1] if said else text).strip()


def _boxed(source: str, last: str, percent: bool) -> str:
    boxes = _boxes(source) if source.count("\\boxed") > 1 else []
    if boxes and boxes[-1][2] == last:
        first = len(boxes) - 1
        while first > 0 and _BETWEEN.fullmatch(source, boxes[first - 1][1], boxes[first][0]):
            first -= 1
        if first < len(boxes) - 1:
            return ", ".join(content.strip() for _, _, content in boxes[first:])
    behind = source.rpartition(last + "}")[2] if percent else ""
    return _exact(last) + ("\\%" if percent and _PERCENT.match(behind) else "")


def _boxes(source: str) -> list[tuple[int, int, str]]:
    """Start, end and content of each box that holds something, in one pass over the braces."""
    found: list[tuple[int, int, str]] = []
    opened: list[tuple[int, int] | None] = []
    for brace in _BRACES.finditer(source):
        if brace[0] != "}":
            opened.append(brace.span() if len(brace[0]) > 1 else None)
        elif opened and (span := opened.pop()) and source[span[1] : brace.start()].strip():
            found.append((span[0], brace.end(), source[span[1] : brace.start()]))
    return sorted(found)


def _exact(text: str) -> str:
    """Without a label such as "the answer is"; `\\frac{1}{3} \\approx 0.333` states the exact value first."""
    text = _SAID.sub("", text, count=1) if _SAID.match(text) else text
    if "\\approx" not in text and "≈" not in text:
        return text.strip()
    return re.split(r"\\approx\b|≈", text)[0].strip() or text.strip()


def formula(text: str) -> bool:
    r"""Whether a bare text is one formula: short and without words other than LaTeX commands and function names."""
    if len(text) > 200 or "\n" in text:
        return False
    plain = "" if _NAMES.fullmatch(text.strip()) else _NOT_WORDS.sub("", text)
    return not re.search(r"[^\W\d_]{3,}|__|[\u4e00-\u9fff]{2,}", plain)


def conclusion(text: str) -> str | None:
    """What the last line of an unmarked reply amounts to: its one bold phrase, else its one number."""
    line = text.rstrip().rpartition("\n")[2]
    line = _LABEL.sub("", line, count=1) if _LABEL.match(line) else line
    bold = [phrase.strip() for phrase in _BOLD.findall(line) if not phrase.rstrip().endswith((":", "："))]
    if CODE.search(line) or len(bold) > 1:
        return None
    if bold:
        return bold[0].rstrip(".") if formula(bold[0]) else _lone(bold[0])
    sentence = re.split(r"(?<=[.!?])\s+(?=[A-Z])|(?<=[。！？])(?=.)", line)[-1]
    formulas = [found[2] or found[3] for found in _MATH.finditer(sentence)]
    if not formulas:
        return None if "\\" in sentence.replace("\\$", "") else _lone(sentence)
    rest = _MATH.sub("", sentence)
    return formulas[0].strip() if len(formulas) == 1 and not re.search(r"\d", rest) else None


def _lone(text: str) -> str | None:
    """The only number of a sentence; None for several, or where it is part of something larger."""
    text = symbols.latex(text)
    found: list[str] = _LONE.findall(text)
    return found[0].strip() if len(found) == 1 and len(re.findall(r"\d+(?:[.,]\d+)*", text)) == 1 else None
