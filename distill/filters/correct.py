"""Correct: the problem's own verifier accepts the answer; a judge model and a vote can help where it cannot tell.

`judge` is asked about answers that the rules call wrong or undecidable, since rules miss unusual notations; it never
overrules an exact computation (code, countdown, reasoning_gym), a missing or a cut answer, or two answers at once.
`vote` is for problems without a gold: the answer that most samples of a problem agree on is taken for right. That is a
weaker gold, so the verdict says so in its detail, and its score is the share of the votes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterator
from itertools import groupby
from numbers import Rational
from typing import Literal

from pydantic import Field, model_validator

from distill import verifiers
from distill.errors import InputError
from distill.filters import Candidate, Candidates, Context, Filter
from distill.judges import judge
from distill.judges.questions import Question, problem_text
from distill.types import Outcome, Problem, Record, Trace

_COMPUTED = frozenset({"code", "countdown", "reasoning_gym", "judge"})
_ASK = b"?"  # first byte of a feature: to be judged
_SILENT = b"-"  # has no answer
_VOTE = b"="  # votes for what follows


class Judging(judge.Config):
    on: tuple[Literal["wrong", "undecidable"], ...] = Field(("wrong", "undecidable"), min_length=1)
    """Verdicts of the rules that are put to the judge."""
    rubric: str | None = Field(None, min_length=1)
    """Criteria by which the judge is asked about problems without a gold; None asks about none of these."""
    threshold: float | None = Field(None, gt=0, le=1)
    """Least score that passes, where the judge gives scores by a rubric; None asks for a plain yes or no."""


class Vote(Record):
    votes: int = Field(3, ge=2)
    """Samples with an answer that a problem needs at least, for a vote to decide."""
    share: float = Field(0.5, gt=0, le=1)
    """Least share of a problem's samples with an answer that must agree; a tie decides nothing."""


class Config(Record):
    judge: Judging | None = None
    """Judge model that is asked where the rules say wrong or undecidable; None asks none."""
    vote: Vote | None = None
    """Rule by which samples vote on the answer of a problem without a gold; None decides nothing."""

    @model_validator(mode="after")
    def _one_for_no_gold(self) -> Config:
        if self.vote and self.judge and self.judge.rubric:
            raise ValueError("problems without a gold are decided by `vote` or by the judge's `rubric`, not by both")
        return self


class Correct(Filter):
    def __init__(self, config: Config, context: Context) -> None:
        self._config = config
        self._context = context

    def __call__(self, problem: Problem, trace: Trace) -> Outcome:
        return self._context.verifiers.judge(problem, trace)

    def basis(self) -> str:
        """The verifiers, which say what is correct."""
        return verifiers.basis(self._context.verifier_kinds)

    def feature(self, problem: Problem, trace: Trace) -> bytes | None:
        """Whether a judge may be asked about the trace, or what it votes for."""
        judging = self._config.judge
        if problem.answer is None and self._config.vote:
            return self._ballot(problem, trace)
        if judging is None or (problem.answer is None and judging.rubric is None):
            return None
        if problem.verifier.get("kind") in _COMPUTED or trace.finish != "stop" or not (trace.answer or "").strip():
            return None
        return _ASK

    def _ballot(self, problem: Problem, trace: Trace) -> bytes | None:
        if not (trace.answer or "").strip():
            return _SILENT
        try:
            key = self._context.verifiers.key(problem, trace)
        except InputError:  # answers of this kind can only be told apart by a gold
            return None
        if key is None:
            return _SILENT
        return _VOTE + hashlib.blake2b(_plain(key).encode(), digest_size=16).digest()

    def settle(self, candidates: Candidates) -> Iterator[tuple[int, Outcome]]:
        if self._config.vote:
            for _, samples in groupby(candidates, key=lambda candidate: candidate.problem_id):
                yield from _elect(list(samples), self._config.vote)
        if self._config.judge:
            yield from self._judge(candidates, self._config.judge)

    def _judge(self, candidates: Candidates, config: Judging) -> Iterator[tuple[int, Outcome]]:
        rules: dict[int, Outcome] = {}  # outcomes by the rules of the questions in flight

        def doubtful() -> Iterator[int]:
            for candidate in candidates:
                if _doubtful(candidate, config):
                    rules[candidate.number] = candidate.first_outcome()
                    yield candidate.number

        def questions() -> Iterator[tuple[int, Question]]:
            for number, problem, trace in candidates.load(doubtful()):
                rubric = config.rubric if problem.answer is None else None
                question = Question(
                    problem=problem_text(problem),
                    prediction=trace.answer or "",
                    gold=problem.answer,
                    rubric=rubric,
                    threshold=config.threshold if rubric else None,
                )
                yield number, question

        settings = config.model_dump(exclude={"on", "rubric", "threshold"})
        judge_model = judge.JudgeClient(judge.Config.model_validate(settings), self._context.cache)
        try:
            for number, ruling in judge_model.stream(questions()):
                rule = rules.pop(number)
                detail = f"{ruling.detail}; rules: {rule.reason} {rule.detail}".strip()
                yield number, ruling.model_copy(update={"detail": detail})
        finally:
            judge_model.close()


def _doubtful(candidate: Candidate, config: Judging) -> bool:
    if candidate.feature != _ASK:
        return False
    rule = candidate.first_outcome()
    verdict = {True: "right", False: "wrong", None: "undecidable"}[rule.passed]
    return verdict in config.on and rule.reason != "several_answers"


def _elect(samples: list[Candidate], config: Vote) -> Iterator[tuple[int, Outcome]]:
    """The vote on one problem; a sample without an answer has no vote and cannot be right."""
    ballots = Counter(sample.feature for sample in samples if (sample.feature or b"").startswith(_VOTE))
    total = ballots.total()
    leaders = ballots.most_common(2)
    is_tie = len(leaders) > 1 and leaders[0][1] <= leaders[1][1]
    is_clear = total >= config.votes and not is_tie and leaders[0][1] >= config.share * total
    for sample in samples:
        if sample.feature == _SILENT:
            yield sample.number, Outcome(passed=False, reason="no_answer", score=0.0)
            continue
        count = ballots.get(sample.feature, 0)
        if count and sample.first_outcome().reason == "no_gold":
            detail = f"vote {count} of {total}"
            if not is_clear:
                yield sample.number, Outcome(passed=None, reason="no_majority", detail=detail)
            elif sample.feature == leaders[0][0]:
                yield sample.number, Outcome(passed=True, score=count / total, detail=detail)
            else:
                yield sample.number, Outcome(passed=False, reason="minority", score=count / total, detail=detail)


def _plain(key: Hashable) -> str:
    """A verifier's key as text, equal in every process."""
    if isinstance(key, Rational):
        return str(key)
    if isinstance(key, frozenset):
        return "{" + ",".join(sorted(map(_plain, key))) + "}"
    if isinstance(key, tuple):
        return "(" + ",".join(map(_plain, key)) + ")"
    return repr(key)


def build(config: Config, context: Context) -> Filter:
    return Correct(config, context)
