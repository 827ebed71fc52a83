"""What sampling costs, in whatever currency the prices are given."""

from __future__ import annotations

from pydantic import Field, model_validator

from distill.types import Record


class Price(Record):
    """A price, either of an engine's time or of the tokens that a hosted API bills."""

    per_hour: float | None = Field(None, ge=0)
    """Price of one engine (endpoint) for an hour; None for engines that cost nothing by the hour."""
    input: float | None = Field(None, ge=0)
    """Price of a million prompt tokens, None for free ones; a trace that is continued sends its text so far once
    more."""
    output: float | None = Field(None, ge=0)
    """Price of a million completion tokens; None for free ones."""

    @model_validator(mode="after")
    def _one_way(self) -> Price:
        by_token = self.output is not None
        if by_token == (self.per_hour is not None) or (self.input is not None and not by_token):
            raise ValueError("give either per_hour, or output (and input) per million tokens")
        return self

    def cost(self, prompt: float, completion: float, engine_seconds: float) -> float:
        """Cost of so many tokens, or of so many seconds of all engines together."""
        if self.per_hour is not None:
            return self.per_hour * engine_seconds / 3600
        return ((self.input or 0) * prompt + (self.output or 0) * completion) / 1e6
