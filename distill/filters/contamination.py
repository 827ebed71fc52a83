"""Contamination: neither the problem nor the trace contains a problem that the student will be measured on.

Runs of n words, in scripts without blanks n letters, nominate benchmark problems; one counts if the text has most of
its words in the same order in one place, and its numbers: the same story with other numbers is another problem.
Benchmark problems of fewer than n words must be equal as a whole. What many problems of a benchmark share is its
template and counts for nothing. Signs are not compared, so an otherwise equal problem with `x + 1` in place of `x - 1`
counts too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache

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


def basis(config: Config, context: Context) -> list[str]:
    """The benchmarks' content: local files by their bytes, others by name."""
    refs = context.benchmarks if config.against is None else config.against
    return [
        content_id(ref, *(path.read_text(encoding="utf-8") for path in sets.local_files(ref, "test"))) for ref in refs
    ]


def build(config: Config, context: Context) -> Filter:
    """Index the benchmarks.

    Raises:
        InputError: there is nothing to compare with, or a set cannot be read.
    """
    refs = context.benchmarks if config.against is None else config.against
    benchmarks = [(ref, [*sets.load(ref, "test", on_bad=lambda bad: None)]) for ref in dict.fromkeys(refs)]
    names = [f"{ref} {problem.id}" for ref, members in benchmarks for problem in members]
    if not names:
        raise InputError(
            "contamination: there is no benchmark to compare with",
            fix="name problem sets in `against`, give the recipe's eval some sets, or switch this check off",
        )

    @cache
    def overlap() -> OverlapIndex:
        # made at the first trace: a process that only settles what workers checked needs none
        prompts = [[_prompt(problem) for problem in members] for _, members in benchmarks]
        return OverlapIndex(prompts, config.n, config.coverage, config.numbers, config.template)

    @lru_cache(maxsize=1024)  # the traces of a problem come one after the other
    def problem_outcome(prompt: str) -> Outcome:
        return _outcome(
            "problem_contaminated",
            [*overlap().equal_problems(prompt), *overlap().contained_problems(prompt)],
            names.__getitem__,
        )

    def contamination(problem: Problem, trace: Trace) -> Outcome:
        outcome = problem_outcome(_prompt(problem))
        if outcome.passed:
            return _outcome("trace_contaminated", [*overlap().contained_problems(trace.text)], names.__getitem__)
        return outcome

    return contamination


def _prompt(problem: Problem) -> str:
    return "\n\n".join(message.content for message in problem.messages)


def _outcome(reason: str, matches: list[ProblemMatch], name: Callable[[int], str]) -> Outcome:
    if not matches:
        return PASS
    matches = sorted(
        {match.problem_index: match for match in matches}.values(),
        key=lambda match: (-match.coverage, match.problem_index),
    )
    listed = [f"{name(match.problem_index)} {match.coverage:.0%} “{match.quote}”" for match in matches[:_LISTED]]
    unlisted = len(matches) - _LISTED
    detail = "; ".join(listed)
    if unlisted > 0:
        detail += f"; and {unlisted} more"
    return Outcome(passed=False, reason=reason, score=round(matches[0].coverage, 4), detail=detail)
