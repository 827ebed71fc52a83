"""Finish: the trace ended by itself, not at the token budget, in a loop or by an abort.

Reasons: `cut`, `loop`, `aborted`, `surplus`. A surplus trace finished beside the last one that its problem's stopping
rule counted: keeping it would favour short traces, since its longer siblings were cancelled. A trace whose reasoning
was opened and never closed is cut whatever its record says: where a trace came from others, that is often lost.
"""

from __future__ import annotations

from distill.filters import PASS, Context, Filter
from distill.types import Outcome, Problem, Record, Trace

_REASONS = {"length": "cut", "repetition": "loop", "abort": "aborted"}


class Config(Record):
    pass


class FinishFilter(Filter):
    def __call__(self, problem: Problem, trace: Trace) -> Outcome:
        reason = _REASONS.get(trace.finish)
        if reason:
            return Outcome(passed=False, reason=reason, detail=f"{trace.usage.completion} tokens")
        sampled = problem.metadata.get("sampled")
        if sampled and trace.sample >= sampled["samples"]:
            return Outcome(passed=False, reason="surplus", detail=f"the rule counted {sampled['samples']} samples")
        if trace.reasoning_span and not trace.answer_span:
            return Outcome(passed=False, reason="cut", detail=f"in the reasoning, recorded as {trace.finish}")
        return PASS


def build(config: Config, context: Context) -> Filter:
    return FinishFilter()
