"""Paragraphs: no paragraph of the reasoning is a wall of text.

DeepSeek-R1 (section 2.3.3) leaves chains of thought with long paragraphs out of its distillation set without saying how
long is long. Reasoning is not wrapped, so a line is a paragraph. The answer may be as long-winded as it likes.
"""

from __future__ import annotations

import re

from pydantic import Field

from distill.filters import PASS, Context, Filter
from distill.text.scripts import SCRIPTS, UNSPACED
from distill.types import Outcome, Problem, Record, Trace

_UNSPACED = re.compile("[" + "".join(SCRIPTS[script] for script in sorted(UNSPACED)) + "]")


class Config(Record):
    max_words: int = Field(500, ge=1)
    """Most words of a paragraph; two letters of a script without blanks count as one word."""


class ParagraphFilter(Filter):
    def __init__(self, config: Config) -> None:
        self._max_words = config.max_words

    def __call__(self, problem: Problem, trace: Trace) -> Outcome:
        # counting is slow, and in ASCII a word takes two characters: itself and a blank
        max_words = self._max_words
        lines = [line for line in (trace.reasoning or "").splitlines() if len(line) > max_words]
        candidates = [(count_words(line), line) for line in lines if len(line) > 2 * max_words or not line.isascii()]
        words, line = max(candidates, key=lambda counted: counted[0], default=(0, ""))
        if words <= max_words:
            return PASS
        return Outcome(passed=False, reason="long_paragraph", score=words, detail=f"{words} words: {line.strip()[:60]}")


def build(config: Config, context: Context) -> Filter:
    return ParagraphFilter(config)


def count_words(text: str) -> int:
    """Words between blanks; letters of scripts without blanks are taken out and count half."""
    spaced, letters = (text, 0) if text.isascii() else _UNSPACED.subn(" ", text)
    return len(spaced.split()) + (letters + 1) // 2
