"""Contamination: neither the problem nor the trace contains a problem that the student will be measured on.

Runs of n words, in scripts without blanks n letters, nominate benchmark problems; one counts if the text has most of
its words in the same order in one place, and its numbers: the same story with other numbers is another problem.
Benchmark problems of fewer than n words must be equal as a whole. What many problems of a benchmark share is its
template and counts for nothing. Signs are not compared, so an otherwise equal problem with `x + 1` in place of `x - 1`
counts too.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property, lru_cache

from pydantic import Field

from distill.errors import InputError
from distill.filters import PASS, Context, Filter
from distill.problems import sets
from distill.text.overlap import OverlapIndex, ProblemMatch
from distill.types import Outcome, Problem, Record, Trace, content_id

_LISTED = 3  # matches spelled out in a detail


class Config(Record):
    against: tuple[str, ...] | None = None
    """Problem sets as `name:split`; None takes those that the recipe's eval uses."""
    n: int = Field(8, ge=2, le=50)
    """Length of a run that nominates, in words; in Chinese and Japanese, in letters."""
    coverage: float = Field(0.7, gt=0, le=1)
    """Share of a benchmark problem's own words that a text must have to be a copy."""
    numbers: float = Field(0.9, ge=0, le=1)
    """Share of a benchmark problem's numbers that a text must have besides the words to be a copy."""
    template: float = Field(0.3, gt=0, le=1)
    """Share of a benchmark's problems from which on a run of words, or a paragraph, is its template, if 3 have it."""


class ContaminationFilter(Filter):
    def __init__(self, config: Config, context: Context) -> None:
        self._config = config
        self._refs = context.benchmarks if config.against is None else config.against
        self._outcome_of_prompt = lru_cache(maxsize=1024)(self._judge_prompt)  # a problem's traces come one by one

    def __call__(self, problem: Problem, trace: Trace) -> Outcome:
        outcome = self._outcome_of_prompt(_prompt(problem))
        if outcome.passed:
            return self._outcome("trace_contaminated", self._overlap.contained_problems(trace.text))
        return outcome

    def _judge_prompt(self, prompt: str) -> Outcome:
        matches = [*self._overlap.equal_problems(prompt), *self._overlap.contained_problems(prompt)]
        return self._outcome("problem_contaminated", matches)

    def basis(self) -> list[str]:
        """The benchmarks' content: local files by their bytes, others by name."""
        return [
            content_id(ref, *(path.read_text(encoding="utf-8") for path in sets.local_files(ref, "test")))
            for ref in self._refs
        ]

    @cached_property
    def _benchmarks(self) -> list[tuple[str, list[Problem]]]:
        """The problems of each benchmark.

        Raises:
            InputError: there are none to compare with, or a set cannot be read.
        """
        benchmarks = [(ref, [*sets.load(ref, "test", on_bad=lambda bad: None)]) for ref in dict.fromkeys(self._refs)]
        if not any(problems for _, problems in benchmarks):
            raise InputError(
                "contamination: there is no benchmark to compare with",
                fix="name problem sets in `against`, give the recipe's eval some sets, or switch this check off",
            )
        return benchmarks

    @cached_property
    def _names(self) -> list[str]:
        return [f"{ref} {problem.id}" for ref, problems in self._benchmarks for problem in problems]

    @cached_property
    def _overlap(self) -> OverlapIndex:
        config = self._config
        prompts = [[_prompt(problem) for problem in problems] for _, problems in self._benchmarks]
        return OverlapIndex(prompts, config.n, config.coverage, config.numbers, config.template)

    def _outcome(self, reason: str, matches: Iterable[ProblemMatch]) -> Outcome:
        ranked = sorted(
            {match.problem_index: match for match in matches}.values(),
            key=lambda match: (-match.coverage, match.problem_index),
        )
        if not ranked:
            return PASS
        listed = [
            f"{self._names[match.problem_index]} {match.coverage:.0%} “{match.quote}”" for match in ranked[:_LISTED]
        ]
        unlisted = len(ranked) - _LISTED
        detail = "; ".join(listed)
        if unlisted > 0:
            detail += f"; and {unlisted} more"
        return Outcome(passed=False, reason=reason, score=round(ranked[0].coverage, 4), detail=detail)


def build(config: Config, context: Context) -> Filter:
    return ContaminationFilter(config, context)


def _prompt(problem: Problem) -> str:
    return "\n\n".join(message.content for message in problem.messages)
