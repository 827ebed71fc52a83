from __future__ import annotations

import pytest

from distill.filters import ChosenFilter, Context


@pytest.mark.parametrize(
    ("finish", "reason"), [("stop", ""), ("length", "cut"), ("repetition", "loop"), ("abort", "aborted")]
)
def test_finish(context, make_trace, make_problem, finish, reason):
    outcome = ChosenFilter.of({}, "finish").build(context)(make_problem(), make_trace("a", finish=finish))
    assert (outcome.passed, outcome.reason) == (not reason, reason)


def test_reasoning_that_never_ends_is_cut_whatever_the_record_says(context, make_trace, make_problem):
    check = ChosenFilter.of({}, "finish").build(context)
    outcome = check(make_problem(), make_trace("<think>Let me see. First,", finish="stop"))
    assert (outcome.passed, outcome.reason) == (False, "cut")
    assert check(make_problem(), make_trace("First,", prefill="<think>\n")).reason == "cut"
    assert check(make_problem(), make_trace("<think>done</think>so")).passed
    assert check(make_problem(), make_trace("never thought")).passed


def test_every_cut_real_trace_is_named_cut_by_its_text_alone(context, make_trace, make_problem, shared):
    """Labelled cut: 24, found: 23. The other one never opened its reasoning and ends with its boxed answer: complete.

    (Its note says that only the tag behind the answer is missing; `format` calls it `think_missing`.)
    """
    check = ChosenFilter.of({}, "finish").build(context)
    rows = shared("real_traces.jsonl")
    found = {row["id"] for row in rows if check(make_problem(), make_trace(row["text"])).reason == "cut"}
    labelled = {row["id"] for row in rows if row["status"] != "complete"}
    assert len(labelled) == 24
    assert labelled - found == {"rg3b-olympiadbench-601"}
    assert not found - labelled


def test_length_counts_the_students_tokens_of_the_whole_turn(context, make_trace, make_problem):
    check = ChosenFilter.of({"min_tokens": 10, "max_tokens": 12}, "length").build(context)
    outcomes = [check(make_problem(), make_trace("x" * n, prefill="<think>")) for n in (2, 3, 5, 6)]
    assert [outcome.reason for outcome in outcomes] == ["too_short", "", "", "too_long"]
    assert [outcome.score for outcome in outcomes] == [9, 10, 12, 13]


def test_correct_is_the_problems_verifier(make_trace, make_problem):
    check = ChosenFilter.of({}, "correct").build(Context(student="none"))
    problem = make_problem(answer="B", verifier={"kind": "choice"})
    assert check(problem, make_trace("<think>so</think>\\boxed{B}")).passed is True
    assert check(problem, make_trace("<think>so</think>\\boxed{C}")).reason == "wrong_answer"
    assert check(problem, make_trace("<think>so", finish="length")).reason == "no_answer"
    assert check(make_problem(), make_trace("<think>so</think>\\boxed{B}")).passed is None


def test_what_finished_beyond_its_problems_end_is_surplus(context, make_trace, make_problem):
    problem = make_problem(metadata={"sampled": {"samples": 3, "correct": 2, "pass_rate": 0.5}})
    check = ChosenFilter.of({}, "finish").build(context)
    trace = make_trace("<think>a</think>b")
    outcomes = [check(problem, trace.model_copy(update={"sample": sample})) for sample in (2, 3)]
    assert [outcome.reason for outcome in outcomes] == ["", "surplus"]
