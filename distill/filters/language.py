"""Language: the assistant turn stays in the problem's language, judged by script.

Letters are counted by script after code and formulas are taken out (of formulas only the ASCII, since drift hides in
`\\text{…}` too). A foreign word in quotes or brackets, or a very short one that stands alone, is a quotation; foreign
letters glued to a word, or more of them, are drift. What the problem itself contains is never foreign. Words of the
same script (German in English) are not told apart.
"""

from __future__ import annotations

import re

from pydantic import Field

from distill.filters import PASS, Context, Filter
from distill.text.scripts import HOMES, SCRIPTS, UNSPACED, count_words, function_words, scripts_in, words_in
from distill.types import Outcome, Problem, Record, Trace

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|</?\w+>", re.DOTALL)
_FORMULA = re.compile(r"\$\$.{0,2000}?\$\$|\$[^$\n]{1,200}\$|\\\(.{0,2000}?\\\)|\\\[.{0,2000}?\\\]", re.DOTALL)
_ASCII = re.compile(r"[\x00-\x7f]+")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_QUOTED = re.compile(
    r"[\"“「『《]([^\"”」』》\n]{1,40})[\"”」』》]|[(（\[]([^()（）\[\]\n]{1,40})[)）\]]|['‘](\w{1,10})['’]"
)
_SUBTAG = re.compile("[-_]")
_GAP = r"(?:[^\w\n]|\d)+"  # a run goes on over blanks, signs and numbers


class Config(Record):
    share: float = Field(0.15, gt=0, le=1)
    """Greatest share of foreign words in all, quotations included; in scripts without blanks each letter is a word."""
    letters: int = Field(3, ge=0)
    """Most foreign letters outside quotations, in all, of a script without blanks."""
    quotation: int = Field(8, ge=0)
    """Words of the longest quotation; no more foreign words than that are never too large a share."""
    words: int = Field(1, ge=0)
    """Most foreign words outside quotations, in all, of another script that is not Latin."""
    latin_words: int = Field(4, ge=0)
    """Most different Latin words in one run within another script: names, units and terms are common there."""
    function_words: int = Field(2, ge=0)
    """Most different English function words outside quotations, in all, within another script."""


class LanguageFilter(Filter):
    def __init__(self, config: Config) -> None:
        self._config = config

    def __call__(self, problem: Problem, trace: Trace) -> Outcome:
        homes = HOMES.get(_SUBTAG.split(problem.language.lower())[0])
        if homes is None:
            return Outcome(passed=None, reason="unknown_language", detail=problem.language)
        suspects = scripts_in(trace.text, (script for script in SCRIPTS if script not in homes))
        if not suspects:
            return PASS
        return _outcome(suspects, homes, problem, trace, self._config)


def build(config: Config, context: Context) -> Filter:
    return LanguageFilter(config)


def word_counts(text: str, language: str) -> tuple[int, int] | None:
    """Words of the language's own scripts and of all others, code and formulas aside.

    In scripts without blanks each letter is a word. None for a language whose script is not known.
    """
    homes = HOMES.get(_SUBTAG.split(language.lower())[0])
    if homes is None:
        return None
    plain = _without_formulas(_CODE.sub(" ", text))
    home_words = sum(count_words(home, plain) for home in homes)
    foreign_scripts = scripts_in(plain, (script for script in SCRIPTS if script not in homes))
    return home_words, sum(count_words(script, plain) for script in foreign_scripts)


def _outcome(suspects: list[str], homes: tuple[str, ...], problem: Problem, trace: Trace, config: Config) -> Outcome:
    prompt = " ".join(message.content for message in problem.messages)
    raw = _CODE.sub(" ", trace.text)
    text = _without_formulas(raw)
    for script in suspects:
        foreign = [word for word in words_in(script, text) if word not in prompt]
        if not foreign:
            continue
        unquoted = _unquoted(script, _lines_with(script, text), config.quotation)
        drift = _glued(script, homes, raw, prompt) or _drift(script, unquoted, prompt, config)
        if not drift and len(foreign) <= config.quotation:
            continue
        share = len(foreign) / (sum(count_words(home, text) for home in homes) + len(foreign))
        if drift or share > config.share:
            detail = f"{script} {share:.1%}: {' '.join(drift.split())[:60] or ' '.join(foreign)[:60]}"
            return Outcome(passed=False, reason="foreign_script", score=share, detail=detail)
    return PASS


def _lines_with(script: str, text: str) -> str:
    """The lines that have letters of a script: neither a quotation nor a run goes beyond its line."""
    return "\n".join(line for line in text.split("\n") if scripts_in(line, [script]))


def _without_formulas(text: str) -> str:
    text = _FORMULA.sub(lambda formula: _ASCII.sub(" ", formula[0]), text)
    return _COMMAND.sub(" ", text)


def _unquoted(script: str, text: str, longest: int) -> str:
    def keep(match: re.Match[str]) -> str:
        return " , " if len(words_in(script, match[0])) <= longest else match[0]

    return _QUOTED.sub(keep, text)


def _glued(script: str, homes: tuple[str, ...], text: str, prompt: str) -> str:
    """A snippet in which foreign letters follow or precede the language's own without a blank: `energy需求`."""
    own_letters = "".join(SCRIPTS[home] for home in homes if home not in UNSPACED)
    if not own_letters or script == "Latin":
        return ""
    own_letter = re.compile(f"[{own_letters}]")
    for run in re.finditer(f"[{SCRIPTS[script]}]+", text):
        around = text[max(0, run.start() - 1) : run.start()] + text[run.end() : run.end() + 1]
        if own_letter.search(around) and run[0] not in prompt:
            return text[max(0, run.start() - 15) : run.end() + 15]
    return ""


def _drift(script: str, text: str, prompt: str, config: Config) -> str:
    """A snippet that shows too much of a foreign script in a text without its quotations; empty if there is none."""
    letters = SCRIPTS[script]
    prompt_lower = prompt.lower()
    limit = config.words
    if script == "Latin":
        limit = config.latin_words
    elif script in UNSPACED:
        limit = config.letters
    foreign_count = 0
    joining_words: set[str] = set()
    for run in re.finditer(rf"[{letters}]+(?:{_GAP}[{letters}]+)*", text):
        foreign = [word for word in words_in(script, run[0]) if word not in prompt]
        foreign_count += len(foreign)
        if script == "Latin":
            size = len({word.lower() for word in foreign})
            joining_words.update(word for word in function_words(run[0]) if word not in prompt_lower)
        else:
            size = foreign_count
        if size > limit or len(joining_words) > config.function_words:
            return text[max(0, run.start() - 15) : run.end() + 15]
    return ""
