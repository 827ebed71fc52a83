"""Pass rate: keep the problems that the model solves neither nearly always nor too seldom.

Where generate sampled until a rule stopped it, the rate is its unbiased estimate (pass_rates.jsonl); else it is the
share of correct ones among a problem's traces whose correctness is decided, so the check `correct` must be on. Kimi
k1.5 (section 2.1) measures difficulty so, with ten samples.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import groupby

from pydantic import Field, model_validator

from distill.filters import PASS, Candidates, Context, Filter
from distill.types import Outcome, Problem, Record, Trace

_ESTIMATE = struct.Struct("<dI")  # rate, samples


class Config(Record):
    low: float = Field(0.0, ge=0, lt=1)
    """A problem with this pass rate or a lower one is `too_hard`; 0 drops only what is never solved."""
    high: float = Field(0.9, gt=0, le=1)
    """A problem with a pass rate above this one is `too_easy`; 1 drops none."""
    samples: int = Field(4, ge=1)
    """Decided traces that a rate needs where no rule stopped the sampling; fewer are undecidable (`few_samples`)."""

    @model_validator(mode="after")
    def _ordered(self) -> Config:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be less than high ({self.high})")
        return self


class PassRate(Filter):
    needs = ("correct",)

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, problem: Problem, trace: Trace) -> Outcome:
        return PASS

    def feature(self, problem: Problem, trace: Trace) -> bytes | None:
        sampled = problem.metadata.get("sampled")
        return _ESTIMATE.pack(sampled["pass_rate"], sampled["samples"]) if sampled else None

    def settle(self, candidates: Candidates) -> Iterator[tuple[int, Outcome]]:
        """One outcome for all traces of a problem; holds one problem's numbers at a time."""
        for _, group in groupby(candidates, key=lambda candidate: candidate.problem_id):
            candidates_of_problem = list(group)
            if candidates_of_problem[0].feature is not None:
                rate, samples = _ESTIMATE.unpack(candidates_of_problem[0].feature)
                outcome = self._judge(rate, f"estimated from {samples}")
            else:
                decided = [candidate.correct for candidate in candidates_of_problem if candidate.correct is not None]
                detail = f"{sum(decided)} of {len(decided)}"
                if len(decided) < self.config.samples:
                    outcome = Outcome(passed=None, reason="few_samples", detail=detail)
                else:
                    outcome = self._judge(sum(decided) / len(decided), detail)
            yield from ((candidate.number, outcome) for candidate in candidates_of_problem)

    def _judge(self, rate: float, detail: str) -> Outcome:
        reason = ""
        if rate <= self.config.low:
            reason = "too_hard"
        elif rate > self.config.high:
            reason = "too_easy"
        return Outcome(passed=not reason, reason=reason, score=rate, detail=detail)


def build(config: Config, context: Context) -> Filter:
    return PassRate(config)
