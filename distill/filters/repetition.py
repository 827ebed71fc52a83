"""Repetition: the trace does not loop.

Three signs, each without a false alarm on real correct chains (measured in the tests): a tail that repeats with some
period, lines that repeat at once, and a large share of words inside repeated runs of words. Digits are masked only for
tails: counting loops change nothing but their numbers, and so does an honest search by trial and error whose lines have
the same shape, so a masked period must go on for much longer than an exact one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydantic import Field

from distill.filters import Context, Filter
from distill.text.hashes import SplitWords, ngrams
from distill.types import Outcome, Problem, Record, Trace

if TYPE_CHECKING:
    from distill.text.hashes import Hashes

Loop = tuple[str, int]  # what repeats, and how often
_DIGITS = re.compile(r"\d+")


class Config(Record):
    repeats: int = Field(4, ge=2)
    """Exact repeats of a tail's period that make a loop."""
    characters: int = Field(200, ge=1)
    """Least length in characters of a tail that loops exactly."""
    masked_repeats: int = Field(30, ge=2)
    """Repeats that make a loop when only the digits differ."""
    masked_characters: int = Field(500, ge=1)
    """Least length in characters of a tail that loops when only the digits differ."""
    lines: int = Field(5, ge=2)
    """Times in a row that a group of one to four lines must be written, anywhere, to make a loop."""
    words: int = Field(20, ge=2)
    """Length in words of the runs that are compared."""
    share: float = Field(0.2, gt=0, le=1)
    """Greatest share of words that begin a run of `words` words written before; more of them make a loop."""


class RepetitionFilter(Filter):
    def __init__(self, config: Config) -> None:
        self._config = config

    def __call__(self, problem: Problem, trace: Trace) -> Outcome:
        config = self._config
        share, repeated = _repeated_words(trace.text, config)
        parts = [part.strip() for part in (trace.reasoning, trace.answer) if part] or [trace.text.strip()]
        loops = (_tail(part, config) or _lines(part, config.lines) for part in parts)
        loop = next(filter(None, loops), repeated)
        if not loop:
            return Outcome(passed=True, score=share)
        unit, count = loop
        excerpt = unit
        if len(unit) > 80:
            excerpt = unit[:77] + "..."
        return Outcome(passed=False, reason="loop", score=share, detail=f"{excerpt!r} × {count}")


def build(config: Config, context: Context) -> Filter:
    return RepetitionFilter(config)


def ends_in_loop(text: str) -> bool:
    """Whether a text that was cut ends in a loop, by the default settings: going on with it would be a waste."""
    return _tail(text.strip(), Config()) is not None


def _tail(text: str, config: Config) -> Loop | None:
    exact = _period(text, config.repeats, config.characters)
    if exact or not _may_end_masked(text, config):
        return exact
    return _period(_DIGITS.sub("0", text), config.masked_repeats, config.masked_characters)


def _may_end_masked(text: str, config: Config) -> bool:
    """Whether the end of the masked text stands once more so near that it may be a period; masks little of it."""
    anchor = _anchor_size(config.masked_characters)
    letters = max(_DIGITS.split(text[-anchor:]), key=len)  # these must stand there too; most are found nowhere else
    if text.rfind(letters, 0, text.rfind(letters) + len(letters) - 1) < 0:
        return False
    size_needed = anchor + len(text) // config.masked_repeats
    width = 2 * size_needed  # digits make up less than half of most texts
    end = ""
    while len(end) < size_needed and len(end) < width <= 4 * len(text):
        end = _DIGITS.sub("0", text[-width:])
        width *= 2
    return end.rfind(end[-anchor:], max(0, len(end) - size_needed), len(end) - 1) >= 0


def _anchor_size(characters: int) -> int:
    return min(50, (characters + 1) // 2)


def _period(text: str, repeats: int, characters: int) -> Loop | None:
    """(unit, count) of a tail that is one unit again and again.

    Where such a tail ends, its last characters stand one period earlier too: so only the distances to their earlier
    places are tried, nearest first.
    """
    anchor = text[-_anchor_size(characters) :]
    position = text.rfind(anchor, 0, len(text) - 1)
    while position >= 0:
        period = len(text) - len(anchor) - position
        covered = max(period * repeats, characters)
        if covered > len(text):
            break
        if text[-covered:-period] == text[period - covered :]:
            unit = text[-period:]
            count = covered // period
            while text.endswith(unit, 0, len(text) - count * period):
                count += 1
            return unit, count
        position = text.rfind(anchor, 0, position + len(anchor) - 1)
    return None


def _lines(text: str, repeats: int) -> Loop | None:
    """A group of up to four lines that is written `repeats` times in a row; lines of a few signs do not count."""
    lines = [*filter(None, map(str.strip, text.splitlines()))]
    if len(lines) - len(set(lines)) < repeats - 1:
        return None
    for size in range(1, 5):
        run = 0
        for end in range(size, len(lines)):
            run = run + 1 if lines[end] == lines[end - size] else 0
            if run >= size * (repeats - 1) and sum(map(len, lines[end - size : end])) >= 20 * size:
                return " ".join(lines[end - size + 1 : end + 1]), repeats
    return None


def _repeated_words(text: str, config: Config) -> tuple[float, Loop | None]:
    """Share of the words that begin a run written three times or more, its first time apart.

    The commonest run comes with it where that share is too large. Words are what stands between blanks; runs are
    compared by a 64-bit rolling hash of their words.
    """
    import numpy as np

    size = config.words
    words = SplitWords(text)
    # most texts have no such runs even by their words' shapes, which are made in half the time
    if len(words) < size + 2 or not len(_third_and_later(ngrams(words.shapes(), size))):
        return 0.0, None
    runs = ngrams(words.hashes(), size)
    repeated = _third_and_later(runs)
    if not len(repeated):
        return 0.0, None
    share = (len(repeated) + 1 + int(np.count_nonzero(repeated[1:] != repeated[:-1]))) / len(words)
    if share <= config.share:
        return share, None
    _, first_positions, counts = np.unique(runs, return_index=True, return_counts=True)
    count = int(counts.max())
    start = int(first_positions[counts == count].min())
    return share, (" ".join(text.split(None, start + size)[start : start + size]), count)


def _third_and_later(runs: Hashes) -> Hashes:
    """Each run from its third time on; written twice is no sign: a good chain may say its result once more."""
    import numpy as np

    ordered = np.sort(runs)
    third: Hashes = ordered[2:][ordered[2:] == ordered[:-2]]
    return third
