r"""What an answer is made of: lists, sets, tuples, intervals, unions and matrices, compared part by part.

A bare list is as unordered as a set, since it names the solutions of something; in brackets order and their kind
count. Works on normalised LaTeX (`_latex.normal`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

Same = Callable[[str, str], bool | None]

_MATRIX = re.compile(r"\\begin\{([pbB]?matrix|array)\}(?:\{[clr|]*\})?(.*)\\end\{\1\}")
_LABEL = re.compile(r"([a-zA-Z])(?:_\{?\w+\}?)?=(?!=)(.+)")
_MEMBER = re.compile(r"[a-zA-Z]\\in(?![a-zA-Z])(.+)")
_ENDS = {"<": ")", "\\lt": ")", "\\le": "]", "\\leq": "]", "<=": "]"}
_ENDS |= {">": "(", "\\gt": "(", "\\ge": "[", "\\geq": "[", ">=": "["}
_TURNED = dict(zip(_ENDS, [*_ENDS][5:] + [*_ENDS][:5], strict=True))  # 3<x is x>3
_LETTER = re.compile("[a-zA-Z]|\\\\[a-z]+")
_RELATION = re.compile(r"(\\(?:leq?|geq?|lt|gt)(?![a-zA-Z])|[<>]=?)")
_MOST = 24


class Shape(NamedTuple):
    kind: str
    """`list`, `set`, `union`, `matrix R` with R rows, or the two brackets of a tuple or interval."""
    parts: tuple[str, ...]

    @property
    def ordered(self) -> bool:
        return self.kind not in ("list", "set", "union")


def read(text: str) -> Shape | None:
    """The shape of a normalised answer; None for a single value, or more parts than an answer has."""
    member = _MEMBER.fullmatch(text)
    found = _read(member[1] if member else text)
    return found if found and len(found.parts) <= _MOST else None


def _read(text: str) -> Shape | None:
    if matrix := _MATRIX.fullmatch(text):
        rows = [row for row in re.split(r"\\\\(?:\[\w+\])?", matrix[2]) if row]
        return Shape(f"matrix {len(rows)}", tuple(cell for row in rows for cell in row.split("&")))
    parts = _split(text, "\\cup")
    if len(parts) > 1:
        return Shape("union", tuple(parts))
    inner, brackets = _bracketed(text)
    if brackets == "{}":
        return Shape("set", _items(inner))
    if brackets:
        parts = _split(inner, ",;")
        return Shape(brackets, tuple(parts)) if len(parts) > 1 else None
    items = _items(text)
    return Shape("list", items) if len(items) > 1 else None


def _bracketed(text: str) -> tuple[str, str]:
    r"""What stands between the brackets that hold the whole text, and those; `\{`, `\langle` as `{`, `(`."""
    plain = text.replace("\\{", "{").replace("\\}", "}").replace("\\langle", "(").replace("\\rangle", ")")
    plain = plain.replace("\\lbrace", "{").replace("\\rbrace", "}")
    if len(plain) < 2 or plain[0] not in "([{" or plain[-1] not in ")]}":
        return text, ""
    depth = 0
    for place, char in enumerate(plain):
        depth += (char in "([{") - (char in ")]}")
        if depth == 0:
            return (plain[1:-1], plain[0] + plain[-1]) if place == len(plain) - 1 else (text, "")
    return text, ""


def _split(text: str, marks: str) -> list[str]:
    """Parts between marks (characters, or one command) that stand in no brackets."""
    parts, start, depth, place = [], 0, 0, 0
    command = marks.startswith("\\")
    while place < len(text):
        char = text[place]
        depth += (char in "([{") - (char in ")]}")
        hit = text.startswith(marks, place) if command else char in marks
        if hit and depth <= 0:
            parts.append(text[start:place])
            place += len(marks) if command else 1
            start = place
        else:
            place += 1
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


def interval(text: str) -> str:
    r"""An inequality for one letter as the interval that it says: `x\le3` is `(-\infty,3]`; other text as it is."""
    parts = _RELATION.split(text)
    if len(parts) == 3 and _LETTER.fullmatch(parts[2]) and not _LETTER.fullmatch(parts[0]):
        parts = [parts[2], _TURNED[parts[1]], parts[0]]
    if len(parts) == 3 and _LETTER.fullmatch(parts[0]):
        end = _ENDS[parts[1]]
        return f"(-\\infty,{parts[2]}{end}" if end in ")]" else f"{end}{parts[2]},\\infty)"
    if len(parts) == 5 and _LETTER.fullmatch(parts[2]):
        left, right = _ENDS[_TURNED[parts[1]]], _ENDS[parts[3]]
        if left in "([" and right in ")]":
            return f"{left}{parts[0]},{parts[4]}{right}"
    return text


def same(gold: Shape, other: Shape, equal: Same) -> bool | None:
    """Whether two shapes hold the same parts; None where that is not for parts to say."""
    if gold.kind != other.kind and (gold.ordered or other.ordered):
        return _mixed(gold, other, equal)
    if len(gold.parts) != len(other.parts):
        return False if gold.kind != "set" else None
    if gold.ordered:
        return _all([equal(left, right) for left, right in zip(gold.parts, other.parts, strict=True)])
    open_, verdict = list(other.parts), True
    for part in gold.parts:
        opinions = [equal(part, candidate) for candidate in open_]
        if True in opinions:
            open_.pop(opinions.index(True))
        elif None in opinions:
            return None
        else:
            verdict = False
    return verdict


def _mixed(gold: Shape, other: Shape, equal: Same) -> bool | None:
    """A column in round brackets is that vector; a list that someone put in brackets is still that list, in order."""
    kinds = {gold.kind, other.kind}
    if kinds & {"set", "union"} or not kinds & {"list", f"matrix {len(gold.parts)}", "matrix 1"}:
        return False
    if len(gold.parts) != len(other.parts):
        return False
    in_order = _all([equal(left, right) for left, right in zip(gold.parts, other.parts, strict=True)])
    return None if in_order is False and "list" in kinds else in_order


def _all(opinions: list[bool | None]) -> bool | None:
    return False if False in opinions else None if None in opinions else True
