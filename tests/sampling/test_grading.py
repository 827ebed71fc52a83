"""Verdicts from processes that may die."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from distill.errors import RunError
from distill.machine import children
from distill.sampling.grading import Grader
from distill.types import Outcome, Problem, Trace
from tests.conftest import GOOD, make_problem, make_trace

WRONG = "</think>\n\n<answer>3 + 7 + 8</answer>"

DEADLY = """
import os
from distill.types import Outcome, Record
from distill.verifiers import Verifier


class Config(Record):
    pass


class _Deadly(Verifier):
    def verify(self, gold, text):
        if "die" in text:
            os._exit(7)
        print("not a verdict")
        return Outcome(passed="yes" in text)

    def key(self, gold, text):
        return text


def build(config):
    return _Deadly()
"""


async def graded(asked: list[tuple[Problem, Trace]], workers: int) -> list[Outcome]:
    grader = Grader(workers)
    try:
        return await asyncio.gather(*(grader.grade(problem, trace) for problem, trace in asked))
    finally:
        grader.close()


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_each_trace_gets_its_own_verdict(workers: int) -> None:
    problem, other = make_problem(), make_problem("Make 18.", answer={"target": 18, "numbers": [3, 7, 8]})
    texts = [GOOD, WRONG, "no end", "</think>\n\n<answer>line\nbreak \u2028 — \ud7ff</answer>"] * 30
    asked = [(owner, make_trace(text)) for text in texts for owner in (problem, other)]
    found = asyncio.run(graded(asked, workers))
    expected = [text == GOOD if owner is problem else text == WRONG for text in texts for owner in (problem, other)]
    assert [outcome.passed for outcome in found] == expected
    assert {outcome.reason for outcome in found[4:6]} == {"no_answer"}
    bad = make_problem(answer={"target": "x"})
    [outcome] = asyncio.run(graded([(bad, make_trace())], workers))
    assert (outcome.passed, outcome.reason) == (None, "bad_gold")


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 3000, 100_000])  # all is read by the time it dies, or not all is, or not even sent
def test_a_process_that_dies_costs_one_verdict(size: int, tmp_path: Path) -> None:
    kind = tmp_path / "deadly.py"
    kind.write_text(DEADLY)
    problem = make_problem(answer="x", verifier={"kind": str(kind)})
    texts = ["yes", "no", "die", "yes", "no", "die", "yes"] * 2
    found = asyncio.run(graded([(problem, make_trace(f"</think>{text}{'.' * size}")) for text in texts], 1))
    assert [outcome.passed for outcome in found] == [True, False, None, True, False, None, True] * 2
    assert [outcome.reason for outcome in found if outcome.passed is None] == ["worker_died"] * 4


def test_a_process_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_ENTER", "raise SystemExit(3)")
    with pytest.raises(RunError, match="cannot grade answers: their process ended with status 3"):
        asyncio.run(graded([(make_problem(), make_trace())], 1))
