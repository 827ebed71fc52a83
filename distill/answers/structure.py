r"""What an answer is made of: lists, sets, tuples, intervals, unions and matrices, compared part by part.

A bare list is as unordered as a set, since it names the solutions of something; in brackets order and their kind
count. Works on normalised LaTeX (`latex.normalised`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

PartComparison = Callable[[str, str], bool | None]

_MATRIX = re.compile(r"\\begin\{([pbB]?matrix|array)\}(?:\{[clr|]*\})?(.*)\\end\{\1\}")
_LABEL = re.compile(r"([a-zA-Z])(?:_\{?\w+\}?)?=(?!=)(.+)")
_MEMBER = re.compile(r"[a-zA-Z]\\in(?![a-zA-Z])(.+)")
_BRACKETS = {"<": ")", "\\lt": ")", "\\le": "]", "\\leq": "]", "<=": "]"}
_BRACKETS |= {">": "(", "\\gt": "(", "\\ge": "[", "\\geq": "[", ">=": "["}
_MIRRORED = dict(zip(_BRACKETS, [*_BRACKETS][5:] + [*_BRACKETS][:5], strict=True))  # 3<x is x>3
_LETTER = re.compile("[a-zA-Z]|\\\\[a-z]+")
_RELATION = re.compile(r"(\\(?:leq?|geq?|lt|gt)(?![a-zA-Z])|[<>]=?)")
_MAX_PARTS = 24


class AnswerShape(NamedTuple):
    kind: str
    """`list`, `set`, `union`, `matrix R` with R rows, or the two brackets of a tuple or interval."""
    parts: tuple[str, ...]
    """Members or cells as normalised LaTeX, in the order in which they are written."""

    @property
    def ordered(self) -> bool:
        return self.kind not in ("list", "set", "union")


def read(text: str) -> AnswerShape | None:
    """The shape of a normalised answer; None for a single value, and for more parts than an answer has."""
    member = _MEMBER.fullmatch(text)
    shape = _read(member[1] if member else text)
    if shape and len(shape.parts) <= _MAX_PARTS:
        return shape
    return None


def _read(text: str) -> AnswerShape | None:
    if matrix := _MATRIX.fullmatch(text):
        rows = [row for row in re.split(r"\\\\(?:\[\w+\])?", matrix[2]) if row]
        return AnswerShape(f"matrix {len(rows)}", tuple(cell for row in rows for cell in row.split("&")))
    parts = _split(text, "\\cup")
    if len(parts) > 1:
        return AnswerShape("union", tuple(parts))
    inner, brackets = _bracketed(text)
    if brackets == "{}":
        return AnswerShape("set", _items(inner))
    members = tuple(_split(inner, ",;")) if brackets else _items(text)
    return AnswerShape(brackets or "list", members) if len(members) > 1 else None


def _bracketed(text: str) -> tuple[str, str]:
    r"""What stands between the brackets that hold the whole text, and these two; `\{`, `\langle` as `{`, `(`."""
    plain = text.replace("\\{", "{").replace("\\}", "}").replace("\\langle", "(").replace("\\rangle", ")")
    plain = plain.replace("\\lbrace", "{").replace("\\rbrace", "}")
    if len(plain) < 2 or plain[0] not in "([{" or plain[-1] not in ")]}":
        return text, ""
    depth = 0
    for index, char in enumerate(plain):
        depth += (char in "([{") - (char in ")]}")
        if depth == 0:
            if index == len(plain) - 1:
                return plain[1:-1], plain[0] + plain[-1]
            break
    return text, ""


def _split(text: str, separators: str) -> list[str]:
    """Parts between marks (characters, or one command) that stand in no brackets."""
    parts = []
    start = 0
    depth = 0
    index = 0
    command = separators.startswith("\\")
    while index < len(text):
        char = text[index]
        depth += (char in "([{") - (char in ")]}")
        is_mark = text.startswith(separators, index) if command else char in separators
        if is_mark and depth <= 0:
            parts.append(text[start:index])
            index += len(separators) if command else 1
            start = index
        else:
            index += 1
    return [*parts, text[start:]]


def _items(text: str) -> tuple[str, ...]:
    r"""Members of a list or set: `x=1,x=-2` names 1 and -2, `1\pm a` is two."""
    parts = [part for part in _split(text, ",;") if part]
    labels = [_LABEL.fullmatch(part) for part in parts]
    if len({label[1] for label in labels if label}) == 1 and labels[0]:
        parts = [label[2] if label else part for label, part in zip(labels, parts, strict=True)]
    items: list[str] = []
    for part in parts:
        if part.count("\\pm") == 1 and "\\mp" not in part:
            items += [part.replace("\\pm", sign).removeprefix("+") for sign in "+-"]
        else:
            items.append(part)
    return tuple(items)


def as_interval(text: str) -> str:
    r"""An inequality for one letter as the interval that it says: `x\le3` is `(-\infty,3]`; other text as it is."""
    parts = _RELATION.split(text)
    if len(parts) == 3 and _LETTER.fullmatch(parts[2]) and not _LETTER.fullmatch(parts[0]):
        parts = [parts[2], _MIRRORED[parts[1]], parts[0]]
    if len(parts) == 3 and _LETTER.fullmatch(parts[0]):
        bracket = _BRACKETS[parts[1]]
        if bracket in ")]":
            return f"(-\\infty,{parts[2]}{bracket}"
        return f"{bracket}{parts[2]},\\infty)"
    if len(parts) == 5 and _LETTER.fullmatch(parts[2]):
        opening = _BRACKETS[_MIRRORED[parts[1]]]
        closing = _BRACKETS[parts[3]]
        if opening in "([" and closing in ")]":
            return f"{opening}{parts[0]},{parts[4]}{closing}"
    return text


def same_parts(gold: AnswerShape, answer: AnswerShape, equal: PartComparison) -> bool | None:
    """Whether two shapes hold the same parts; None where that is not for parts to say."""
    if gold.kind != answer.kind and (gold.ordered or answer.ordered):
        return _same_across_kinds(gold, answer, equal)
    if len(gold.parts) != len(answer.parts):
        return None if gold.kind == "set" else False
    if gold.ordered:
        return _conjunction(
            [equal(gold_part, answer_part) for gold_part, answer_part in zip(gold.parts, answer.parts, strict=True)]
        )
    unmatched = list(answer.parts)
    all_equal = True
    for part in gold.parts:
        opinions = [equal(part, candidate) for candidate in unmatched]
        if True in opinions:
            unmatched.pop(opinions.index(True))
        elif None in opinions:
            return None
        else:
            all_equal = False
    return all_equal


def _same_across_kinds(gold: AnswerShape, answer: AnswerShape, equal: PartComparison) -> bool | None:
    """A column in round brackets is that vector; a list that someone put in brackets is still that list, in order."""
    kinds = {gold.kind, answer.kind}
    if kinds & {"set", "union"} or not kinds & {"list", f"matrix {len(gold.parts)}", "matrix 1"}:
        return False
    if len(gold.parts) != len(answer.parts):
        return False
    in_order = _conjunction(
        [equal(gold_part, answer_part) for gold_part, answer_part in zip(gold.parts, answer.parts, strict=True)]
    )
    if in_order is False and "list" in kinds:
        return None
    return in_order


def _conjunction(opinions: list[bool | None]) -> bool | None:
    """Whether all are true: one that is false decides, else one that is unknown."""
    if False in opinions:
        return False
    return None if None in opinions else True
