"""Where reasoning ends and the answer begins in what a model said."""

from __future__ import annotations

from distill.types import Record


class Tags(Record):
    """The delimiters of a model's reasoning."""

    open: str = "<think>"
    """Text that opens the reasoning."""
    close: str = "</think>"
    """Text that closes the reasoning."""


class Spans(Record):
    """Character ranges of reasoning and answer in a completion; see `Trace.reasoning_span` and `Trace.answer_span`."""

    reasoning: tuple[int, int] | None
    answer: tuple[int, int] | None


def split(completion: str, prefill: str, tags: Tags) -> Spans:
    """Where reasoning and answer lie in a completion.

    Everything up to the first closing tag is reasoning, what follows is the answer. Reasoning must have been opened,
    by the prompt's prefill or by the completion itself.
    """
    start = 0
    if not prefill.rstrip().endswith(tags.open):
        blanks = len(completion) - len(completion.lstrip())
        if not completion.startswith(tags.open, blanks):
            # never opened: the whole completion is an answer without reasoning, unless it closes what it never opened
            if tags.close in completion:
                return Spans(reasoning=None, answer=None)
            return Spans(reasoning=None, answer=(0, len(completion)))
        start = blanks + len(tags.open)
    close = completion.find(tags.close, start)
    if close < 0:
        return Spans(reasoning=(start, len(completion)), answer=None)
    return Spans(reasoning=(start, close), answer=(close + len(tags.close), len(completion)))
