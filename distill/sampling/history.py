"""What the logs say of earlier sampling: the attempts that exist, how far they came, and what they were worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from distill.store import jsonl
from distill.types import Finish, Problem, Record, Trace, content_id

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Logs:
    """The files of one model's sampling; those that are None are not kept."""

    traces: Path
    failures: Path
    grades: Path | None = None
    rates: Path | None = None
    censored: Path | None = None
    replies: Path | None = None
    """Raw replies, written before they are read."""


class RefusedAttempt(Record):
    """A request that the engine refused for good, kept beside the log; asked again only when told to."""

    id: str
    problem_id: str
    sample: int
    reason: str


class Grade(Record):
    """What the problem's verifier said of a trace as soon as it was finished."""

    trace_id: str
    problem_id: str
    sample: int
    passed: bool | None
    reason: str
    gold: str
    """Hash of the gold answer and its verifier: a mended gold voids the grade."""


class ProblemPassRate(Record):
    """A problem that has been sampled enough. The last row of a problem counts: raising n or k goes on from here."""

    problem_id: str
    samples: int
    """Samples that count: those with a lower index than this. What finished beyond is surplus."""
    correct: int
    pass_rate: float
    """Unbiased for the rule that stopped the sampling."""
    ended: str
    """`enough` (k are correct), `given_up` (none of g is) or `all` (n were sampled)."""


class Censored(Record):
    """A sample that was cancelled, its problem being decided without it: its full length is unknown."""

    id: str
    problem_id: str
    sample: int
    seconds: float


@dataclass(frozen=True, slots=True)
class LoggedAttempt:
    """An attempt in the log: how far it came, and where its line is."""

    finish: Finish
    tokens: int
    path: str
    offset: int


def gold_hash(problem: Problem) -> str:
    return content_id(problem.answer, problem.verifier)


class History:
    """Read once at the start; small per trace, whatever their length."""

    def __init__(self, logs: Logs) -> None:
        self.logged: dict[str, LoggedAttempt] = {}
        self.grades: dict[str, tuple[bool | None, str]] = {}
        """(verdict, hash of the gold) by trace id."""
        self.failed: set[str] = set()
        self.rates: dict[str, tuple[int, int]] = {}
        """(samples, correct) by problem id."""
        if jsonl.exists(logs.traces):
            for head in jsonl.heads(logs.traces):
                self.logged[head.id] = LoggedAttempt(head.finish, head.tokens, head.path, head.offset)
        for failure in read_rows(logs.failures, RefusedAttempt):
            self.failed.add(failure.id)
        for grade in read_rows(logs.grades, Grade):
            self.grades[grade.trace_id] = (grade.passed, grade.gold)
        for rate in read_rows(logs.rates, ProblemPassRate):
            self.rates[rate.problem_id] = (rate.samples, rate.correct)

    def trace(self, id: str) -> Trace:
        recorded = self.logged[id]
        return Trace.model_validate_json(jsonl.line_at(recorded.path, recorded.offset))

    def grade(self, id: str, problem: Problem) -> tuple[bool | None] | None:
        """The verdict on a trace, if there is one that still holds."""
        stored = self.grades.get(id)
        if stored and stored[1] == gold_hash(problem):
            return (stored[0],)
        return None


def read_rows(path: Path | None, kind: type[R]) -> Iterator[R]:
    """Rows of a log that may not be kept, or not be there yet."""
    if path is None or not jsonl.exists(path):
        return iter(())
    return jsonl.read(path, kind)
