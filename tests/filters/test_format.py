from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill.filters import ChosenFilter, Context
from distill.models.reasoning import Tags


def reason(make_trace, make_problem, text, prefill="", answer="any"):
    check = ChosenFilter.of({"answer": answer}, "format").build(Context(student="none"))
    outcome = check(make_problem(), make_trace(text, prefill=prefill))
    assert outcome.passed == (not outcome.reason)
    return outcome.reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>a</think>\n\n<answer>1 + 2</answer>\n", ""),
        ("\n<think>\na\n</think>So \\boxed{3}.", ""),
        ("<think>a</think>First \\boxed{3}. The answer is \\boxed{ 3 }.", ""),
        ("a</think><answer>3</answer>", "think_missing"),
        ("Well <think>a</think><answer>3</answer>", "text_before_think"),
        ("<think>a <answer>3</answer>", "think_not_closed"),
        ("<think>a<think>b</think><answer>3</answer>", "think_reopened"),
        ("<think>a</think><think>b</think><answer>3</answer>", "think_reopened"),
        ("<think>a</think>b</think><answer>3</answer>", "think_closed_twice"),
        ("<think>\n</think><answer>3</answer>", "empty_reasoning"),
        ("<think>a <answer>3</answer></think><answer>3</answer>", "stray_tag"),
        ("<think>a</think><answer>3</answer><|im_end|>", "stray_tag"),
        ("<think>a</think>3</answer>", "stray_tag"),
        ("<think>a</think></answer>3<answer>", "stray_tag"),
        ("<think>a</think>", "answer_missing"),
        ("<think>a</think>3", "answer_missing"),
        ("<think>a</think><answer> </answer>", "answer_missing"),
        ("<think>a</think><answer>3", "answer_not_closed"),
        ("<think>a</think><answer>3</answer><answer>3</answer>", "several_answers"),
        ("<think>a</think>\\boxed{3} or \\boxed{4}", "several_answers"),
        ("<think>a</think>\\boxed{3}<answer>4</answer>", "several_answers"),
        ("<think>a</think><answer>3</answer> as you see", "text_after_answer"),
    ],
)
def test_reasons(make_trace, make_problem, text, expected):
    assert reason(make_trace, make_problem, text) == expected


def test_the_prompt_may_have_opened_the_reasoning(make_trace, make_problem):
    assert reason(make_trace, make_problem, "a</think><answer>3</answer>", prefill="<think>\n") == ""
    assert (
        reason(make_trace, make_problem, "<think>a</think><answer>3</answer>", prefill="<think>\n") == "think_reopened"
    )


def test_the_kind_of_answer_can_be_required(make_trace, make_problem):
    tag, box, prose = ("<think>a</think>" + answer for answer in ("<answer>3</answer>", "\\boxed{3}", "It is 3."))
    found = {
        kind: [reason(make_trace, make_problem, text, answer=kind) for text in (tag, box, prose)]
        for kind in ("tag", "boxed", "any", "none")
    }
    assert found == {
        "tag": ["", "answer_missing", "answer_missing"],
        "boxed": ["stray_tag", "", "answer_missing"],
        "any": ["", "", "answer_missing"],
        "none": ["", "", ""],
    }


def test_other_think_tags(make_trace, make_problem):
    tags = Tags(open="◁think▷", close="◁/think▷")
    check = ChosenFilter.of({}, "format").build(Context(student="none", tags=tags))
    assert check(make_problem(), make_trace("◁think▷a◁/think▷\\boxed{3}", tags=tags)).passed
    assert check(make_problem(), make_trace("<think>a</think>\\boxed{3}", tags=tags)).reason == "think_missing"


plain = st.text(st.characters(exclude_characters="<>\\{}|｜", exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reasoning=plain, answer=plain, after=plain)
def test_any_plain_reasoning_and_answer_are_well_formed(make_trace, make_problem, reasoning, answer, after):
    good = f"<think>{reasoning}</think>\n<answer>{answer}</answer>"
    assert reason(make_trace, make_problem, good) == ""
    assert reason(make_trace, make_problem, good + after) == "text_after_answer"


def test_an_empty_think_block_may_be_allowed(make_trace, make_problem):
    for config, expected in (({}, "empty_reasoning"), ({"empty_reasoning": True}, "")):
        check = ChosenFilter.of({"answer": "none", **config}, "format").build(Context(student="none"))
        assert check(make_problem(), make_trace("<think>\n\n</think>\n\nParis.")).reason == expected


def test_cases_of_public_graders(make_trace, make_problem, shared):
    """All 21 with `empty_reasoning`; by default one differs on purpose.

    TRL's reward accepts a think block with nothing in it: it rewards a shape. A trace to distil reasoning from has to
    have some, so there the filter says `empty_reasoning`, unless told that such traces are wanted.
    """
    cases = shared("format_cases.jsonl")
    assert len(cases) == 21
    found: dict[bool, list[str]] = {True: [], False: []}
    for case in cases:
        answer = "none" if case["schema"] == "think" else "tag"
        for empty, differing in found.items():
            config = {"answer": answer, "empty_reasoning": empty}
            check = ChosenFilter.of(config, "format").build(Context(student="none"))
            if check(make_problem(), make_trace(case["text"])).passed != case["expected"]:
                differing.append(case["text"])
    assert found == {True: [], False: ["<think></think>\nThis is my answer."]}
