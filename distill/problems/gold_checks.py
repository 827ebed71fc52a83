"""Gold answers check themselves before anything is sampled: a bad gold makes every right attempt wrong.

A sound gold accepts itself and other ways to write it, and refuses an answer that differs. Kinds whose
`examples(gold)` says what those are (math, exact, numeric, choice) are put to that test; of all others the gold
must have the form that its verifier reads, and an empty answer must not pass. Verifiers that run programs or ask a
model are not started.
"""

from __future__ import annotations

from collections.abc import Callable

from distill.errors import InputError
from distill.types import Examples, Problem, Record
from distill.verifiers import Verifier, Verifiers

_TYPES = {"countdown": "numbers", "code": "tests", "reasoning_gym": "task", "judge": "text"}


class GoldReport(Record):
    """What the test of one problem's gold came to."""

    problem_id: str
    type: str
    """`integer`, `decimal`, `percent`, `fraction`, `quantity`, `expression`, `equation`, `relation`, `list`, `set`,
    `union`, `tuple`, `interval`, `matrix`, `text`, `prose`, `choice`, `numbers`, `tests`, `task`, `other`;
    `none` without one."""
    ok: bool
    reason: str = ""
    """Why the gold must not be used; empty if it may."""


def check(problem: Problem, verifiers: Verifiers) -> GoldReport:
    """Put a problem's gold to the test; about 0.2 ms.

    Raises:
        InputError: the problem names a verifier that does not exist or settings that it does not have.
    """
    verifier = verifiers.of(problem)
    if problem.answer is None:
        return GoldReport(problem_id=problem.id, type="none", ok=True)
    type_name = _TYPES.get(str(problem.verifier.get("kind")), "other")
    reason = ""
    try:
        if verifier.verify(problem.answer, "").passed:
            reason = "an empty answer passes"
        else:
            golds = problem.answer if isinstance(problem.answer, list | tuple) else [problem.answer]
            tests = [(gold, examples) for gold in golds if (examples := verifier.examples(gold))]
            type_name = tests[0][1].type if tests else type_name
            reason = next(filter(None, (_fault(verifier, gold, examples) for gold, examples in tests)), "")
    except InputError as error:
        reason = error.message
    return GoldReport(problem_id=problem.id, type=type_name, ok=not reason, reason=reason)


def _fault(verifier: Verifier, gold: object, examples: Examples) -> str:
    if examples.type == "prose":
        return f"the gold is a sentence, which no other answer would match: {gold!r:.80}"
    for text in dict.fromkeys(examples.right):
        outcome = verifier.verify(gold, f"\\boxed{{{text}}}")
        if not outcome.passed:
            return f"the gold {gold!r:.80} does not accept {text!r:.80} ({outcome.reason})"
    for text in examples.wrong:
        if verifier.verify(gold, f"\\boxed{{{text}}}").passed:
            return f"the gold {gold!r:.80} accepts {text!r:.80}"
    return ""


def screen(verifiers: Verifiers) -> Callable[[Problem], str]:
    """A test for `sets.load`: why a problem must not be used, empty if it may."""

    def fault(problem: Problem) -> str:
        reason = check(problem, verifiers).reason
        return f"its gold fails: {reason}" if reason else ""

    return fault
