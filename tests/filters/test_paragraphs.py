from __future__ import annotations

import pytest

from distill.filters import ChosenFilter, Context

CHECK = ChosenFilter.of({"max_words": 20}, "paragraphs").build(Context(student="none"))


def judge(make_trace, make_problem, reasoning, answer="so"):
    return CHECK(make_problem(), make_trace(f"<think>\n{reasoning}\n</think>\n{answer}"))


@pytest.mark.parametrize(
    ("reasoning", "words"),
    [
        ("a " * 20, 0),
        ("a " * 21, 21),
        ("word  " * 20, 0),  # blanks are no words
        ("word " * 20 + "\n" + "word " * 20, 0),
        ("word " * 5 + "\n" + "word " * 30 + "\n" + "word " * 25, 30),
        ("x" * 5000, 0),  # one word
        ("学" * 40, 0),
        ("学" * 42, 21),
        ("设x为" * 14, 28),  # 14 words and 28 letters
        ("ひ" * 42, 21),
        ("그래서 " * 21, 21),  # Korean has blanks
        ("поэтому " * 21, 21),
    ],
)
def test_long_paragraphs(make_trace, make_problem, reasoning, words):
    outcome = judge(make_trace, make_problem, reasoning)
    assert (outcome.passed, outcome.reason, outcome.score) == (
        (False, "long_paragraph", words) if words else (True, "", None)
    )


def test_only_the_reasoning_is_looked_at(make_trace, make_problem):
    assert judge(make_trace, make_problem, "fine", answer="word " * 100).passed
    assert CHECK(make_problem(), make_trace("word " * 100)).passed
    assert not CHECK(make_problem(), make_trace("word " * 100, prefill="<think>\n")).passed


def test_real_traces(make_trace, make_problem, shared):
    """By default 2 of 238 clean correct traces are walls of text: one paragraph of 678 and one of 782 words."""
    check = ChosenFilter.of({}, "paragraphs").build(Context(student="none"))
    rows = [r for r in shared("real_traces.jsonl") if r["truth"] == "correct" and r["status"] == "complete"]
    found = [check(make_problem(), make_trace(row["text"])) for row in rows if not row["flags"]]
    assert len(found) == 238
    assert sorted(outcome.score for outcome in found if not outcome.passed) == [678, 782]
