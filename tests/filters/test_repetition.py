from __future__ import annotations

import random
import re
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.filters import ChosenFilter, Context

CHECK = ChosenFilter.of({}, "repetition").build(Context(student="none"))


def judge(make_trace, make_problem, text, closed=True):
    end = "</think>\n<answer>29</answer>" if closed else ""
    return CHECK(make_problem(), make_trace(f"<think>\n{text}{end}"))


def attempt(a: int, b: int, sign: str = "+") -> str:
    return f"Wait, try {a} {sign} {b} = {a + b}, {a + b} * 3 = {3 * (a + b)}. That is {3 * (a + b)}, not 29.\n"


@pytest.mark.parametrize("lines", range(5, 21))
def test_an_honest_search_whose_lines_have_the_same_shape_passes(make_trace, make_problem, lines):
    text = "".join(attempt(10 + i, 20 + 2 * i) for i in range(lines))
    assert judge(make_trace, make_problem, text).passed
    assert judge(make_trace, make_problem, text, closed=False).passed


def test_an_honest_search_that_comes_back_to_some_attempts_passes(make_trace, make_problem):
    rng = random.Random(0)
    for _ in range(200):
        lines = [attempt(a, b, sign) for a in (3, 5) for b in (8, 13, 19) for sign in "+-*"]
        text = "".join(rng.sample(lines, 12) + rng.sample(lines, 3))
        assert judge(make_trace, make_problem, text).passed


@pytest.mark.parametrize(
    "text",
    [
        attempt(1, 2) + attempt(7, 8) * 8,
        attempt(1, 2) + (attempt(7, 8) + attempt(3, 8)) * 6,
        attempt(1, 2) * 6 + "".join(attempt(i, 2 * i) for i in range(10, 30)),  # in the middle, and out of it again
        "So 338 - 494 = -156 is incorrect, the correct answer is actually " * 12,
        "".join(f"Wait, let me check number {i} once more, that is not it.\n" for i in range(100, 180)),
        "2, " * 400,
        "!" * 400,
        "Hmm. " * 60,
    ],
)
@pytest.mark.parametrize("closed", [True, False])
def test_loops_are_found(make_trace, make_problem, text, closed):
    outcome = judge(make_trace, make_problem, text, closed)
    assert (outcome.passed, outcome.reason) == (False, "loop"), outcome
    assert "×" in outcome.detail


def test_the_detail_names_unit_and_count(make_trace, make_problem):
    assert judge(make_trace, make_problem, "Start. " + "Let me try this again, once more. " * 12).detail.endswith(
        "× 12"
    )


def test_a_loop_in_a_cut_answer_is_found(make_trace, make_problem):
    text = "<think>fine</think>" + "The answer is 29, as we saw above. " * 20
    assert CHECK(make_problem(), make_trace(text)).reason == "loop"


def test_saying_the_solution_once_more_passes(make_trace, make_problem):
    solution = " ".join(f"word{i}" for i in range(60))
    assert judge(make_trace, make_problem, f"{solution}. Let me check that. {solution}.").passed


def test_long_text_takes_no_long_time(make_trace, make_problem):
    rng = random.Random(0)
    texts = [
        "a" * 100_000 + "b",
        "ab" * 50_000 + "c",
        " ".join(rng.choice("abc") for _ in range(50_000)),
        "1 " * 50_000,
    ]
    start = time.monotonic()
    for text in texts:
        judge(make_trace, make_problem, text)
    assert time.monotonic() - start < 3


def plain_share(words: list[str], size: int) -> float:
    counts = Counter(tuple(words[at : at + size]) for at in range(len(words) - size + 1))
    return sum(count - 1 for count in counts.values() if count > 2) / max(1, len(words))


@given(
    words=st.lists(st.sampled_from("abc"), max_size=60),
    blanks=st.sampled_from([" ", "\n", "  ", "\u3000"]),
    size=st.integers(2, 5),
)
def test_the_score_is_the_share_of_repeated_runs(make_trace, make_problem, words, blanks, size):
    check = ChosenFilter.of({"words": size}, "repetition").build(Context(student="none"))
    outcome = check(make_problem(), make_trace(blanks.join(words)))
    assert outcome.score == plain_share(words, size)


def test_masking_only_the_end_finds_the_same_loops(make_trace, make_problem):
    """A masked period may be longer than the piece of the tail that is masked first, where it has many digits."""
    for unit in ("{i}, ", "Let {i} be {i}{i}{i}{i}{i}{i}{i}{i}{i}. ", "word " * 9 + "{i}. "):
        for count in (29, 31, 60, 300):
            text = "".join(unit.format(i=10**9 + 7919 * i) for i in range(count))
            masked = re.sub(r"\d+", "0", text).strip()
            loops = count > 30 and len(masked) >= 500
            assert judge(make_trace, make_problem, "Start. " + text).passed is not loops, (unit, count)


def test_real_traces(make_trace, make_problem, shared):
    found, alarms, clean = [], [], 0
    for row in shared("real_traces.jsonl"):
        correct = row["truth"] == "correct" and row["status"] == "complete" and not row["flags"]
        if correct or "loop" in row["flags"]:
            passed = CHECK(make_problem(row["problem"]), make_trace(row["text"])).passed
            clean += correct
            (alarms if correct else found).append(not passed)
    assert sum(found) / len(found) >= 0.95
    assert clean > 200
    assert not any(alarms)
