"""Verifiers decide whether an answer is right. One file per kind; filter, reward and eval all use these.

A kind has a `Config` and `build(config) -> Verifier`. A verifier never hangs, never crashes and never runs what a model
wrote outside a sandbox: `verify` returns in bounded time with bounded memory whatever the text is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from importlib.metadata import version
from typing import Any, Protocol, runtime_checkable

from distill import plugins
from distill.types import Outcome, Problem, Trace, content_id


class Verifier(Protocol):
    def verify(self, gold: Any, text: str) -> Outcome:
        """Judge `text`, the model's reply after its reasoning, against the gold answer.

        Raises:
            InputError: the gold itself is malformed. Anything in `text` is an outcome, never an exception.
        """
        ...

    def key(self, gold: Any, text: str) -> Hashable | None:
        """What the answer in `text` amounts to, so that equal answers can be counted for cons@k; None for no answer."""
        ...


@runtime_checkable
class Assessor(Protocol):
    """A verifier that reads the whole problem (a judge model), and may do without a gold answer."""

    def assess(self, problem: Problem, text: str) -> Outcome: ...


_Assess = Callable[[Problem, str], Outcome]


class Verifiers:
    """Builds each verifier that a problem names once, and applies it to traces."""

    def __init__(self) -> None:
        self._verifiers: dict[str, Verifier] = {}

    def of(self, problem: Problem) -> Verifier:
        """The problem's own verifier."""
        spec_id = content_id(problem.verifier)
        if spec_id not in self._verifiers:
            self._verifiers[spec_id] = plugins.build(
                "verifiers", problem.verifier, where=f"verifier of problem {problem.id}"
            )
        return self._verifiers[spec_id]

    def judge(self, problem: Problem, trace: Trace) -> Outcome:
        """Three-valued verdict on a trace; without reasoning's end or without a gold there is nothing to compare."""
        return self.judge_answer(problem, trace.answer, trace.finish)

    def judge_answer(self, problem: Problem, answer: str | None, finish: str) -> Outcome:
        """The verdict on a trace of which only the answer and the finish reason are at hand."""
        verifier = self.of(problem)
        assess: _Assess | None = getattr(verifier, "assess", None)  # an `Assessor`; asking isinstance takes far longer
        if problem.answer is None and not assess:
            return Outcome(passed=None, reason="no_gold")
        if answer is None:
            return Outcome(passed=False, reason="no_answer", score=0.0, detail=f"reasoning not closed ({finish})")
        if assess:
            return assess(problem, answer)
        return verifier.verify(problem.answer, answer)

    def key(self, problem: Problem, trace: Trace) -> Hashable | None:
        """What the trace's answer amounts to; None for no answer."""
        if trace.answer is None:
            return None
        return self.of(problem).key(problem.answer, trace.answer)


def basis(kinds: Iterable[str]) -> str:
    """Hash of what verdicts depend on besides traces and golds: the verifiers' code and math-verify's version.

    Args:
        kinds: those that problems name. Of these only a user's own files matter: shipped verifiers all count.
    """
    own_files = sorted({kind for kind in kinds if kind.endswith(".py")})
    codes = [plugins.code_of("verifiers", kind) for kind in [*plugins.names("verifiers"), *own_files]]
    return content_id(codes, version("math-verify"))
