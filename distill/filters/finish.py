"""Finish: the trace ended by itself, not at the token budget, in a loop or by an abort."""

from __future__ import annotations

from distill.filters import PASS, Context, Filter
from distill.types import Outcome, Problem, Record, Trace

_REASONS = {"length": "cut", "repetition": "loop", "abort": "aborted"}


class Config(Record):
    pass


def build(config: Config, context: Context) -> Filter:
    def finish(problem: Problem, trace: Trace) -> Outcome:
        reason = _REASONS.get(trace.finish)
        return Outcome(passed=False, reason=reason, detail=f"{trace.usage.completion} tokens") if reason else PASS

    return finish
