"""Length: the assistant turn has a fitting number of the student's tokens. The score is that number."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from distill.filters import Context, Filter
from distill.models import presets
from distill.types import Outcome, Problem, Record, Trace


class Config(Record):
    min_tokens: int = Field(1, ge=0)
    """Least tokens of the assistant's turn, reasoning included, as the student counts."""
    max_tokens: int = Field(16384, ge=1)
    """Most tokens of the assistant's turn, reasoning included, as the student counts."""


def basis(config: Config, context: Context) -> str:
    """The tokenizer that counts."""
    return presets.weights_fingerprint(Path(context.student)) or f"{context.student}@{context.revision}"


def build(config: Config, context: Context) -> Filter:
    def length(problem: Problem, trace: Trace) -> Outcome:
        tokens = context.tokenizer.count(trace.text)
        if tokens > config.max_tokens:
            return Outcome(
                passed=False, reason="too_long", score=tokens, detail=f"more than {config.max_tokens} tokens"
            )
        if tokens < config.min_tokens:
            return Outcome(
                passed=False, reason="too_short", score=tokens, detail=f"less than {config.min_tokens} tokens"
            )
        return Outcome(passed=True, score=tokens)

    return length
