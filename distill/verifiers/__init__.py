"""Verifiers decide whether an answer is right. One file per kind; filter, reward and eval all use these.

A kind has a `Config` and `build(config) -> Verifier`. A verifier never hangs, never crashes and never runs what a model
wrote outside a sandbox: `verify` returns in bounded time with bounded memory whatever the text is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable
from importlib.metadata import version

from distill import plugins
from distill.types import Examples, Outcome, Problem, Trace, content_id


class Verifier(ABC):
    """Compares answers with golds; all that a kind may offer, with what holds where it does not."""

    reads_problem: bool = False
    """Whether `assess` goes by the whole problem, as a judge model does, and may do without a gold answer."""

    @abstractmethod
    def verify(self, gold: object, text: str) -> Outcome:
        """Judge `text`, the model's reply after its reasoning, against the gold answer.

        Raises:
            InputError: the gold itself is malformed. Anything in `text` is an outcome, never an exception.
        """

    @abstractmethod
    def key(self, gold: object, text: str) -> Hashable | None:
        """What the answer in `text` amounts to, so that equal answers can be counted for cons@k; None for no answer."""

    def assess(self, problem: Problem, text: str) -> Outcome:
        """Judge `text` as an answer to a problem.

        Raises:
            InputError: as `verify`.
        """
        return self.verify(problem.answer, text)

    def examples(self, gold: object) -> Examples | None:
        """Other ways to write a gold, and answers that differ from it, by which the gold is tried; None: not known."""
        return None


class ChosenVerifier(plugins.Chosen):
    """The verifier that a problem names, and its settings."""

    family = "verifiers"
    contract = "distill.verifiers.Verifier"

    def build(self) -> Verifier:
        """The verifier that these settings make.

        Raises:
            InputError: it cannot be used with them here, or a user's own file gives something else.
        """
        built = self._build()
        if not isinstance(built, Verifier):
            raise self._misbuilt(built)
        return built


class Verifiers:
    """Builds each verifier that a problem names once, and applies it to traces."""

    def __init__(self) -> None:
        self._verifiers: dict[str, Verifier] = {}

    def of(self, problem: Problem) -> Verifier:
        """The problem's own verifier."""
        spec_id = content_id(problem.verifier)
        if spec_id not in self._verifiers:
            chosen = ChosenVerifier.of(problem.verifier, where=f"verifier of problem {problem.id}")
            self._verifiers[spec_id] = chosen.build()
        return self._verifiers[spec_id]

    def judge(self, problem: Problem, trace: Trace) -> Outcome:
        """Three-valued verdict on a trace; without reasoning's end or without a gold there is nothing to compare."""
        return self.judge_answer(problem, trace.answer, trace.finish)

    def judge_answer(self, problem: Problem, answer: str | None, finish: str) -> Outcome:
        """The verdict on a trace of which only the answer and the finish reason are at hand."""
        verifier = self.of(problem)
        if problem.answer is None and not verifier.reads_problem:
            return Outcome(passed=None, reason="no_gold")
        if answer is None:
            return Outcome(passed=False, reason="no_answer", score=0.0, detail=f"reasoning not closed ({finish})")
        return verifier.assess(problem, answer)

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
