from __future__ import annotations

import pytest

from distill import plugins
from distill.filters import Context


@pytest.mark.parametrize(
    ("finish", "reason"), [("stop", ""), ("length", "cut"), ("repetition", "loop"), ("abort", "aborted")]
)
def test_finish(context, make_trace, make_problem, finish, reason):
    outcome = plugins.build("filters", {}, context, name="finish")(make_problem(), make_trace("a", finish=finish))
    assert (outcome.passed, outcome.reason) == (not reason, reason)


def test_length_counts_the_students_tokens_of_the_whole_turn(context, make_trace, make_problem):
    check = plugins.build("filters", {"min_tokens": 10, "max_tokens": 12}, context, name="length")
    outcomes = [check(make_problem(), make_trace("x" * n, prefill="<think>")) for n in (2, 3, 5, 6)]
    assert [outcome.reason for outcome in outcomes] == ["too_short", "", "", "too_long"]
    assert [outcome.score for outcome in outcomes] == [9, 10, 12, 13]


def test_correct_is_the_problems_verifier(make_trace, make_problem):
    check = plugins.build("filters", {}, Context(student="none"), name="correct")
    problem = make_problem(answer="B", verifier={"kind": "choice"})
    assert check(problem, make_trace("<think>so</think>\\boxed{B}")).passed is True
    assert check(problem, make_trace("<think>so</think>\\boxed{C}")).reason == "wrong_answer"
    assert check(problem, make_trace("<think>so", finish="length")).reason == "no_answer"
    assert check(make_problem(), make_trace("<think>so</think>\\boxed{B}")).passed is None
