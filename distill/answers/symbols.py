"""What stands for LaTeX: full-width forms, superscripts, Greek letters, signs, and plain `sqrt(2)`, `x**2`, `pi`."""

from __future__ import annotations

import re
import unicodedata

_SIGNS = {
    "−": "-",
    "–": "-",
    "—": "-",
    "×": r"\times ",
    "·": r"\cdot ",
    "⋅": r"\cdot ",
    "∗": "*",
    "÷": "/",
    "∕": "/",
    "⁄": "/",
    "±": r"\pm ",
    "≤": r"\le ",
    "⩽": r"\le ",
    "≥": r"\ge ",
    "⩾": r"\ge ",
    "≠": r"\ne ",
    "≈": r"\approx ",
    "∞": r"\infty ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∈": r"\in ",
    "∅": r"\emptyset ",
    "°": r"^\circ ",
    "℃": r"^\circ C",
    "′": "'",
    "，": ", ",
    "、": ", ",
    "。": ".",
    "ℝ": r"\mathbb{R}",
}
_GREEK = {char: f"\\{unicodedata.name(char).split()[-1].lower()} " for char in "αβγδεζηθικμνξπρστυφχψω"}
_GREEK |= {char: f"\\{unicodedata.name(char).split()[-1].capitalize()} " for char in "ΓΔΘΞΠΣΦΨΩ"}
_GREEK |= {"λ": r"\lambda ", "Λ": r"\Lambda "}  # Unicode writes lamda
_TABLE = str.maketrans(_SIGNS | _GREEK)
_SUPERSCRIPTS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_SUBSCRIPTS = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_FRACTION = re.compile("[¼-¾⅐-⅞]")
_ROOT = re.compile(r"√\s*(?:\(([^()]*)\)|\{([^{}]*)\}|([0-9]+(?:\.[0-9]+)?|[a-zA-Z]))")
_FULL_WIDTH = re.compile("[！-～　]+")
_PLAIN_SPELLING = re.compile(
    r"(?<![\\a-zA-Z])(?:sqrt\((?P<root>[^()]*)\)|(?P<pi>pi)(?![a-zA-Z]))|(?P<power>(?<=[\w)}\]])\*\*(?=[\w({]))|(?P<relation>[<>!]=)"
    r"|(?<=[\w})])\s*(?P<times>\*)\s*(?=[\w({\\])"
)
_RELATIONS = {"<=": "\\le ", ">=": "\\ge ", "!=": "\\ne "}


def latex(text: str) -> str:
    """The text with symbols and plain spellings as LaTeX; other scripts stay as they are."""
    if not text.isascii():
        text = _translate(text)
    if _PLAIN_SPELLING.search(text):
        text = _PLAIN_SPELLING.sub(_as_latex, text)
    return text


def _as_latex(match: re.Match[str]) -> str:
    if match["root"] is not None:
        return f"\\sqrt{{{match['root']}}}"
    if match["relation"]:
        return _RELATIONS[match["relation"]]
    if match["pi"]:
        return "\\pi "
    return "^" if match["power"] else "\\cdot "


def _translate(text: str) -> str:
    text = text.translate(_TABLE)
    text = _FULL_WIDTH.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    text = _SUPERSCRIPTS.sub(lambda match: f"^{{{_plain(match[0])}}}", text)
    text = _SUBSCRIPTS.sub(lambda match: f"_{{{_plain(match[0])}}}", text)
    text = _FRACTION.sub(lambda match: "\\frac{{{}}}{{{}}}".format(*_plain(match[0]).split("⁄")), text)
    return _ROOT.sub(lambda match: f"\\sqrt{{{match[1] or match[2] or match[3]}}}", text)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).replace("−", "-")
