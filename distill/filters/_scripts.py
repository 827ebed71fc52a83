"""Scripts: which letters they have and which languages are written in them."""

from __future__ import annotations

import re

SCRIPTS = {  # Greek is left out: its letters are notation in every language
    "Latin": "A-Za-zÀ-ÖØ-öø-ɏ\u1e00-\u1eff",
    "Han": "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f",
    "Kana": "\u3041-\u30ff\uff66-\uff9f",
    "Hangul": "\u1100-\u11ff\uac00-\ud7af",
    "Cyrillic": "\u0400-\u052f",
    "Arabic": "\u0600-\u06ff\u0750-\u077f",
    "Hebrew": "\u0590-\u05ff",
    "Devanagari": "\u0900-\u097f",
    "Thai": "\u0e00-\u0e7f",
}
_LATIN = "en de fr es it pt nl pl cs sk sl hr sv da no fi et lv lt hu ro tr vi id ms sw ca"
HOMES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_LATIN.split(), ("Latin",)),
    **dict.fromkeys(("ru", "uk", "bg", "be", "mk"), ("Cyrillic",)),
    **dict.fromkeys(("ar", "fa", "ur"), ("Arabic",)),
    **dict.fromkeys(("hi", "mr"), ("Devanagari",)),
    "zh": ("Han",),
    "ja": ("Han", "Kana"),
    "ko": ("Hangul",),
    "he": ("Hebrew",),
    "th": ("Thai",),
}
UNSPACED = {"Han", "Kana", "Thai"}  # a letter counts as a word


def words(script: str, text: str) -> list[str]:
    """The words of one script; in a script without blanks, its letters."""
    letters = SCRIPTS[script]
    if script == "Latin":  # a single letter is a variable, letters behind a number are its unit
        found = re.findall(rf"\d\s?[{letters}]+|[{letters}]{{2,}}", text)
        return [word for word in found if not word[0].isdigit()]
    return re.findall(rf"[{letters}]" + ("" if script in UNSPACED else "+"), text)
