"""Judge: another model decides, by the gold answer or, with a `rubric`, by criteria in plain words.

The verdict is undecidable where the judge is unsure or gives none (`judge_unsure`, `no_verdict`), where the server
turns the question down (`judge_refused`) or fails at it again and again (`judge_failed`). It is asked about one answer
at a time: for many, the check `correct` with its setting `judge` is the fast way.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

from pydantic import Field

from distill.answers.plain import HEDGED, is_hedged, stated_answer, wrong
from distill.errors import InputError
from distill.judges import judge
from distill.judges.questions import Question, problem_text
from distill.types import Outcome, Problem
from distill.verifiers import Verifier


class Config(judge.Config):
    rubric: str | None = Field(None, min_length=1)
    """Description of a good answer, needed for problems without a gold answer; None compares with the gold."""
    threshold: float | None = Field(None, gt=0, le=1)
    """Least score that passes, where the judge gives scores by a rubric; None asks for a plain yes or no."""
    cache: Path | None = None
    """Log that keeps verdicts and replies, so that nothing is asked twice; None keeps none."""


class JudgeVerifier(Verifier):
    """Verdicts of a judge model; it reads at most the last 4,000 characters of an answer that it compares."""

    reads_problem = True

    def __init__(self, config: Config) -> None:
        self._config = config
        settings = config.model_dump(exclude={"rubric", "threshold", "cache"})
        self._judge = judge.shared_judge(judge.Config.model_validate(settings), config.cache)

    def assess(self, problem: Problem, text: str) -> Outcome:
        """Judge an answer in the light of the whole problem.

        Raises:
            BackendError: the judge cannot be reached.
        """
        if problem.answer is None and self._config.rubric is None:
            return Outcome(passed=None, reason="no_gold")
        return self._rule(problem_text(problem), problem.answer, text)

    def verify(self, gold: object, text: str) -> Outcome:
        return self._rule("", gold, text)

    def key(self, gold: object, text: str) -> Hashable | None:
        """The stated answer without blanks: only literally equal answers count as one."""
        return None if is_hedged(text) else "".join(stated_answer(text).split()) or None

    def _rule(self, problem: str, gold: object, text: str) -> Outcome:
        config = self._config
        if config.rubric is None and (gold is None or not str(gold).strip()):
            raise InputError(f"not a gold of `judge`: {gold!r}", fix="give an answer, or the verifier a `rubric`")
        if is_hedged(text):
            return HEDGED
        if not text.strip():
            return wrong("no_answer")
        return self._judge.rule(
            Question(problem=problem, prediction=text, gold=gold, rubric=config.rubric, threshold=config.threshold)
        )


def build(config: Config) -> JudgeVerifier:
    return JudgeVerifier(config)
