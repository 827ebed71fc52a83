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
_SUPER = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_SUB = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_FRACTION = re.compile("[¼-¾⅐-⅞]")
_ROOT = re.compile(r"√\s*(?:\(([^()]*)\)|\{([^{}]*)\}|([0-9]+(?:\.[0-9]+)?|[a-zA-Z]))")
_WIDE = re.compile("[！-～　]+")
_TYPED = re.compile(
    r"(?<![\\a-zA-Z])(?:sqrt\((?P<root>[^()]*)\)|(?P<pi>pi)(?![a-zA-Z]))|(?P<power>(?<=[\w)}\]])\*\*(?=[\w({]))|(?P<relation>[<>!]=)"
    r"|(?<=[\w})])\s*(?P<times>\*)\s*(?=[\w({\\])"
)
_RELATIONS = {"<=": "\\le ", ">=": "\\ge ", "!=": "\\ne "}


def latex(text: str) -> str:
    """The text with such characters as LaTeX; other scripts are left alone."""
    if not text.isascii():
        text = _translate(text)
    return _TYPED.sub(_typed, text) if _TYPED.search(text) else text


def _typed(found: re.Match[str]) -> str:
    if found["root"] is not None:
        return f"\\sqrt{{{found['root']}}}"
    if found["relation"]:
        return _RELATIONS[found["relation"]]
    return "\\pi " if found["pi"] else "^" if found["power"] else "\\cdot "


def _translate(text: str) -> str:
    text = text.translate(_TABLE)
    text = _WIDE.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    text = _SUPER.sub(lambda found: f"^{{{_plain(found[0])}}}", text)
    text = _SUB.sub(lambda found: f"_{{{_plain(found[0])}}}", text)
    text = _FRACTION.sub(lambda found: "\\frac{{{}}}{{{}}}".format(*_plain(found[0]).split("⁄")), text)
    return _ROOT.sub(lambda found: f"\\sqrt{{{found[1] or found[2] or found[3]}}}", text)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).replace("−", "-")
