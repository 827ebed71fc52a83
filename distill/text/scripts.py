"""Scripts: which letters they have and which languages are written in them."""

from __future__ import annotations

import re
from collections.abc import Iterable

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

# in a text of another script, words that hold an English sentence together and name nothing
_FUNCTION_WORDS = (
    "the is are was were be been this that these those we he she they it its his her their our my your you of from to "
    "with but so then now wait because since therefore thus hence which what how when where who why does do did have "
    "has had need needs let can could should would will must not there here if also and"
)
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())

_LETTER = {script: re.compile(f"[{letters}]") for script, letters in SCRIPTS.items()}
_RUN = {script: re.compile(f"[{letters}]+") for script, letters in SCRIPTS.items()}
# a single Latin letter is a variable, letters behind a number are its unit
_LATIN_WORD = re.compile(rf"\d\s?[{SCRIPTS['Latin']}]+|([{SCRIPTS['Latin']}]{{2,}})")
_ASCII = bytes(range(128))


def words_in(script: str, text: str) -> list[str]:
    """The words of one script; in a script without blanks, its letters."""
    if script == "Latin":
        return [word for word in _LATIN_WORD.findall(text) if word]
    patterns = _LETTER if script in UNSPACED else _RUN
    return patterns[script].findall(text)


def count_words(script: str, text: str) -> int:
    """How many words `words_in` would return."""
    if script in UNSPACED:
        return sum(map(len, _RUN[script].findall(text)))
    return len(words_in(script, text))


def scripts_in(text: str, scripts: Iterable[str]) -> list[str]:
    """Those of the scripts that have letters in the text; Latin always counts as one of them.

    Most texts have few characters beyond ASCII, so these are taken out first, at the speed of a copy.
    """
    beyond_ascii = ""
    if not text.isascii():
        beyond_ascii = text.encode(errors="surrogatepass").translate(None, _ASCII).decode(errors="surrogatepass")
    return [script for script in scripts if script == "Latin" or _LETTER[script].search(beyond_ascii)]


def function_words(text: str) -> frozenset[str]:
    """The English function words in a text, in lower case."""
    return FUNCTION_WORDS.intersection(_RUN["Latin"].findall(text.lower()))
