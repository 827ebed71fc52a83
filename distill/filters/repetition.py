"""Repetition: the trace does not loop.

Three signs, each without a false alarm on real correct chains (measured in the tests): a tail that repeats with some
period, lines that repeat at once, and a large share of words inside repeated runs of words. Digits are masked only for
tails: counting loops change nothing but their numbers, and so does an honest search by trial and error whose lines have
the same shape, so a masked period must go on for much longer than an exact one.
"""

from __future__ import annotations

import re
from collections import Counter

from pydantic import Field

from distill.filters import Context, Filter
from distill.types import Outcome, Problem, Record, Trace

Unit = tuple[str, int]  # what repeats, and how often
_DIGITS = re.compile(r"\d+")


class Config(Record):
    repeats: int = Field(4, ge=2)
    """Exact repeats of a tail's period that make a loop."""
    characters: int = Field(200, ge=1)
    """Length of the looping tail at least."""
    masked_repeats: int = Field(30, ge=2)
    """Repeats that make a loop when only the digits differ."""
    masked_characters: int = Field(500, ge=1)
    lines: int = Field(5, ge=2)
    """Times that a group of one to four lines is written in a row, anywhere, that make a loop."""
    words: int = Field(20, ge=2)
    share: float = Field(0.2, gt=0, le=1)
    """Share of the words that begin a run of `words` words written before."""


def build(config: Config, context: Context) -> Filter:
    def repetition(problem: Problem, trace: Trace) -> Outcome:
        share, repeated = _repeated_words(trace.text.split(), config.words)
        parts = [part.strip() for part in (trace.reasoning, trace.answer) if part] or [trace.text.strip()]
        looping = (_tail(part, config) or _lines(part.splitlines(), config.lines) for part in parts)
        found = next(filter(None, looping), repeated if share > config.share else None)
        if not found:
            return Outcome(passed=True, score=share)
        unit, count = found
        short = unit if len(unit) <= 80 else unit[:77] + "..."
        return Outcome(passed=False, reason="loop", score=share, detail=f"{short!r} × {count}")

    return repetition


def _tail(text: str, config: Config) -> Unit | None:
    exact = _period(text, config.repeats, config.characters)
    return exact or _period(_DIGITS.sub("0", text), config.masked_repeats, config.masked_characters)


def _period(text: str, repeats: int, characters: int) -> Unit | None:
    """(unit, count) of a tail that is one unit again and again.

    Where such a tail ends, its last characters stand one period earlier too: so only the distances to their earlier
    places are tried, nearest first.
    """
    anchor = text[-min(50, (characters + 1) // 2) :]
    at = text.rfind(anchor, 0, len(text) - 1)
    while at >= 0:
        period = len(text) - len(anchor) - at
        covered = max(period * repeats, characters)
        if covered > len(text):
            break
        if text[-covered:-period] == text[period - covered :]:
            unit, count = text[-period:], covered // period
            while text.endswith(unit, 0, len(text) - count * period):
                count += 1
            return unit, count
        at = text.rfind(anchor, 0, at + len(anchor) - 1)
    return None


def _lines(lines: list[str], repeats: int) -> Unit | None:
    """A group of up to four lines that is written `repeats` times in a row; lines of a few signs do not count."""
    lines = [line.strip() for line in lines if line.strip()]
    for size in range(1, 5):
        run = 0
        for at in range(size, len(lines)):
            run = run + 1 if lines[at] == lines[at - size] else 0
            if run >= size * (repeats - 1) and sum(map(len, lines[at - size : at])) >= 20 * size:
                return " ".join(lines[at - size + 1 : at + 1]), repeats
    return None


def _repeated_words(words: list[str], size: int) -> tuple[float, Unit]:
    """Share of the words that begin a run written three times or more, its first time apart; the commonest run."""
    counts = Counter(tuple(words[at : at + size]) for at in range(len(words) - size + 1))
    # written twice is no sign: a good chain may say its result once more
    share = sum(count - 1 for count in counts.values() if count > 2) / max(1, len(words))
    unit, count = counts.most_common(1)[0] if counts else ((), 0)
    return share, (" ".join(unit), count)
