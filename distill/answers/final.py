r"""The final answer of a reply to a maths problem: what is tagged or boxed, else what it says at its end."""

from __future__ import annotations

import re

from distill.answers import quantities, symbols
from distill.answers.marked import last_boxed, tagged_answers

_PERCENT = re.compile(r"[\s$]*(?:\\?%|pct\b|percent\b)")
_CLOSING_STATEMENT = re.compile(
    r"(?:\banswer(?:\s+is\b)?|答案?(?:是|为)?)\s*[:：]?[\s*]*([^\s:：*][^\n]{0,60})$", re.IGNORECASE
)
_BETWEEN_BOXES = re.compile(r"(?:[\s$,]|\\q?quad|\\text\{\s*and\s*\}|and)*")
_NOT_WORDS = re.compile(
    r"\\(?:begin|end)\{\w+\*?\}|\\(?:text\w*|mbox|mathrm|operatorname)\s*\{[^{}]*\}|\\[a-zA-Z]+"
    r"|\b(?:sqrt|sin|cos|tan|log|exp|pct|percent)\b"
)
_LEAD_IN = re.compile(
    r"(?:\\text\{\s*)?(?:(?:the\s+)?(?:final\s+)?answer\s*(?:is\b|[:：])|答案?(?:是|为|[:：]))\s*[:：]?\s*\}?\s*(?=[^\s}])",
    re.IGNORECASE,
)
_NAME_EQUALITY = re.compile(r"[A-Za-z]+\s*=\s*[A-Za-z]+")
_BRACES = re.compile(r"\\boxed\s*\{|(?<!\\)[{}]")
_ANSWER_LABEL = re.compile(r"\s*\**\s*(?:final\s+)?answer\s*\**\s*[:：]\s*\**\s*", re.IGNORECASE)
_MATH = re.compile(r"\$(\s?)([^\s$](?:[^$\n]*[^\s$=+*/-])?)\1\$|\\\((.+?)\\\)")
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")
_LONE_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.,/^{}\\+=*-])([-+]?\\?\$?(?:\d{1,3}(?:,(?:\\!)?\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?\s?(?:\\?%)?)(?![A-Za-z0-9_]|[.,/:^]\d)"
)
PYTHON_INTERNALS = re.compile(r"__\w+__")  # Python's innards, from which the library would still pick a number
_TAIL_LENGTH = 4000
_LONG_GOLD = 120


def answer(text: str, percent: bool = False) -> tuple[str, bool]:
    r"""What counts of a text, and whether it is known to be the answer alone (marked, short, or said to be it).

    Of a tag that holds a box it is the box. Boxes that only "and" or a comma joins are one answer. With `percent`
    a percent sign behind the box belongs to it.
    """
    tags = tagged_answers(text) if "<answer>" in text else []
    source = tags[-1] if tags else text
    box = last_boxed(source) if "boxed" in source else None
    if box is not None:
        return _boxed(source, box, percent), True
    if tags:
        return _exact(source.strip()), True
    tail = text.strip()[-_TAIL_LENGTH:]  # a final answer stands at the end
    match = _CLOSING_STATEMENT.search(tail[-100:])
    statement = match[1] if match else ""
    for candidate in (statement, tail if len(tail) <= 200 else ""):
        if candidate and (is_formula(candidate) or quantities.read_quantity(candidate)):
            return candidate.strip(), True
    concluding = conclusion(tail)
    if concluding:
        return concluding, True
    return statement or tail, False


def gold(text: str) -> str:
    """What counts of a gold: all of it, or the answer where it is a solution."""
    if "boxed" in text or "<answer>" in text or len(text) > _LONG_GOLD:
        return answer(text)[0].strip()
    statement = _CLOSING_STATEMENT.search(text.strip())
    if statement:
        return statement[1].strip()
    return text.strip()


def _boxed(source: str, last_content: str, percent: bool) -> str:
    """The answer in the last box, or in the boxes that are joined to it."""
    boxes = _boxes(source) if source.count("\\boxed") > 1 else []
    if boxes and boxes[-1][2] == last_content:
        first_joined = len(boxes) - 1
        while first_joined > 0 and _BETWEEN_BOXES.fullmatch(source, boxes[first_joined - 1][1], boxes[first_joined][0]):
            first_joined -= 1
        if first_joined < len(boxes) - 1:
            return ", ".join(content.strip() for _, _, content in boxes[first_joined:])
    answer_text = _exact(last_content)
    if percent and _PERCENT.match(source.rpartition(last_content + "}")[2]):
        answer_text += "\\%"
    return answer_text


def _boxes(source: str) -> list[tuple[int, int, str]]:
    """Start, end and content of each box that holds something, in one pass over the braces."""
    boxes: list[tuple[int, int, str]] = []
    open_spans: list[tuple[int, int] | None] = []
    for brace in _BRACES.finditer(source):
        if brace[0] != "}":
            open_spans.append(brace.span() if len(brace[0]) > 1 else None)
        elif open_spans:
            opening = open_spans.pop()
            content = source[opening[1] : brace.start()] if opening else ""
            if opening and content.strip():
                boxes.append((opening[0], brace.end(), content))
    return sorted(boxes)


def _exact(text: str) -> str:
    """The exact value that a text states, without a lead-in such as "the answer is" and what follows `\\approx`."""
    if _LEAD_IN.match(text):
        text = _LEAD_IN.sub("", text, count=1)
    if "\\approx" not in text and "≈" not in text:
        return text.strip()
    return re.split(r"\\approx\b|≈", text)[0].strip() or text.strip()


def is_formula(text: str) -> bool:
    r"""Whether a bare text is one formula: short and without words other than LaTeX commands and function names."""
    if len(text) > 200 or "\n" in text:
        return False
    if _NAME_EQUALITY.fullmatch(text.strip()):
        return True
    plain = _NOT_WORDS.sub("", text)
    return not re.search(r"[^\W\d_]{3,}|__|[\u4e00-\u9fff]{2,}", plain)


def conclusion(text: str) -> str | None:
    """What the last line of an unmarked reply states: its one bold phrase, else its one number."""
    line = text.rstrip().rpartition("\n")[2]
    if _ANSWER_LABEL.match(line):
        line = _ANSWER_LABEL.sub("", line, count=1)
    bold = [phrase.strip() for phrase in _BOLD.findall(line) if not phrase.rstrip().endswith((":", "："))]
    if PYTHON_INTERNALS.search(line) or len(bold) > 1:
        return None
    if bold:
        return bold[0].rstrip(".") if is_formula(bold[0]) else _only_number(bold[0])
    sentence = re.split(r"(?<=[.!?])\s+(?=[A-Z])|(?<=[。！？])(?=.)", line)[-1]
    formulas = [match[2] or match[3] for match in _MATH.finditer(sentence)]
    if not formulas:
        return None if "\\" in sentence.replace("\\$", "") else _only_number(sentence)
    prose = _MATH.sub("", sentence)
    if len(formulas) > 1 or re.search(r"\d", prose):
        return None
    return formulas[0].strip()


def _only_number(text: str) -> str | None:
    """The only number of a sentence; None for several, or where it is part of something larger."""
    text = symbols.latex(text)
    numbers: list[str] = _LONE_NUMBER.findall(text)
    if len(numbers) != 1 or len(re.findall(r"\d+(?:[.,]\d+)*", text)) != 1:
        return None
    return numbers[0].strip()
