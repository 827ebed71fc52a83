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


class LengthFilter(Filter):
    def __init__(self, config: Config, context: Context) -> None:
        self._config = config
        self._context = context

    def __call__(self, problem: Problem, trace: Trace) -> Outcome:
        config = self._config
        tokens = self._context.tokenizer.count(trace.text)
        if tokens > config.max_tokens:
            return Outcome(
                passed=False, reason="too_long", score=tokens, detail=f"more than {config.max_tokens} tokens"
            )
        if tokens < config.min_tokens:
            return Outcome(
                passed=False, reason="too_short", score=tokens, detail=f"less than {config.min_tokens} tokens"
            )
        return Outcome(passed=True, score=tokens)

    def basis(self) -> str:
        """The tokenizer that counts."""
        student = self._context.student
        return presets.weights_fingerprint(Path(student)) or f"{student}@{self._context.revision}"


def build(config: Config, context: Context) -> Filter:
    return LengthFilter(config, context)
