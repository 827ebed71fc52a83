from __future__ import annotations

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill.errors import InputError
from distill.filters import ChosenFilter, Context
from distill.problems import sets

STORY = (
    "Mia sold 48 paper lanterns to her neighbours in April, and then she sold half as many lanterns in May."
    " How many lanterns did Mia sell altogether in April and May?"
)
FORMULA = (
    "Let $f(x) = \\frac{3x-2}{x-2}$. What is the value of $f(-2) + f(-1) + f(0)$? Express it as a common fraction."
)
CHINESE = "商店运来苹果和梨一共128箱，其中苹果比梨的3倍还多8箱，商店运来苹果和梨各多少箱？"
JAPANESE = "太郎君は1本120円の鉛筆を5本と1冊150円のノートを3冊買いました。代金は全部でいくらですか。"
SHORT = "What is $7 + 5$?"
TOLD = "\n\nPlease reason step by step, and put your final answer within \\boxed{}."
FILLER = "Okay, let me think about what is asked here and go through it slowly, one thing after the other. " * 5


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")

    def make(questions, **config):
        path = folder / f"bench{len(list(folder.iterdir()))}.jsonl"
        path.write_text("".join(json.dumps({"problem": q, "answer": "1"}) + "\n" for q in questions))
        return ChosenFilter.of(config, "contamination").build(Context(student="none", benchmarks=(str(path),)))

    return make


@pytest.fixture(scope="module")
def check(build):
    return build([STORY, FORMULA, CHINESE, JAPANESE, SHORT])


@pytest.fixture
def judge(make_problem, make_trace):
    def call(check, question, text="Nothing."):
        return check(make_problem(question), make_trace(text))

    return call


LEAKS = {
    "verbatim": STORY,
    "case": STORY.upper(),
    "punctuation": STORY.replace(",", " -").replace(".", ";"),
    "lines": STORY.replace(" ", "\n  "),
    "in a template": f"Solve this.\n\n{STORY}{TOLD}",
    "words put in": STORY.replace("sold half", "also sold only half").replace("How many", "So how many"),
    "a word changed": STORY.replace("neighbours", "friends"),
    "formula": FORMULA,
    "LaTeX spacing": "Let $ f ( x ) \\,=\\, \\dfrac{ 3x - 2 }{ x - 2 } $. What is the value of $ f\\left(-2\\right)"
    " + f(-1) + f(0) $ ? Express it as a common fraction.",
    "Chinese": CHINESE,
    "Chinese, reworded": CHINESE.replace("一共", "总共").replace("各", "分别"),
    "Chinese, other width": CHINESE.replace("，", ", ").replace("128", "１２８"),
    "Japanese": JAPANESE,
}


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS.keys())
def test_leaks_are_found_in_problem_and_trace(check, judge, leak):
    outcome = judge(check, leak)
    assert (outcome.passed, outcome.reason) == (False, "problem_contaminated")
    outcome = judge(check, "Something else?", f"<think>\n{FILLER}{leak} {FILLER}</think>12")
    assert (outcome.passed, outcome.reason) == (False, "trace_contaminated")
    outcome = judge(check, "Something else?", f"<think>\n{FILLER}</think>{leak}")
    assert outcome.reason == "trace_contaminated"


OTHERS = {
    "other numbers": STORY.replace("48", "52"),
    "another question": "How many lanterns did Tom and his sister buy altogether in June, if they paid 48 dollars?",
    "a phrase": "In April, and then she sold half as many lanterns in May. That was all.",
    "formula with other numbers": FORMULA.replace("3x-2", "5x-7").replace("x-2", "x-9"),
    "Chinese, other numbers": CHINESE.replace("128", "256").replace("3", "5"),
    "Chinese, another problem": "商店运来苹果和梨一共多少箱？",
    "instructions": TOLD,
    "empty": "…",
}


@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS.keys())
def test_other_problems_are_no_leaks(check, judge, text):
    assert judge(check, text, f"{FILLER}{text}").passed


def test_a_short_problem_counts_only_as_a_whole(check, judge):
    for text in (SHORT, "what is 7+5", f"{SHORT}{TOLD}"):
        assert judge(check, text).reason == "problem_contaminated", text
    for text in ("What is $7 - 5$?", "What is $7 + 6$?", "What is $7 + 5 + 2$?", "Tom knows what is 7 + 5. Do you?"):
        assert judge(check, text, f"Well, {SHORT} It is 12.").passed, text


def test_the_detail_names_set_problem_share_and_words(build, judge):
    check = build([STORY, FORMULA, CHINESE])
    outcome = judge(check, f"{FILLER}{STORY}\n{FORMULA}")
    first, second = outcome.detail.split("; ")
    assert re.fullmatch(r"\S+bench\d+\.jsonl [0-9a-f]{20} 100% “Mia sold 48 paper .*”", first)
    assert "“Let $f(x)" in second
    assert outcome.score == 1.0


def test_what_all_problems_of_a_benchmark_share_counts_for_nothing(build, judge):
    """Instructions within the paragraph or in one of their own, long or short."""
    said = "You are given a puzzle. Think about it carefully, then write the answer in a box at the very end."
    asked = [f"Which {a} is {b}?" for a in ("bird", "fish", "tree", "mole") for b in ("red", "old", "big", "slow")]
    for told in ("{} " + said, "{}\n\n" + said, "{}\n\nAnswer briefly.", "Look:\n\n{}\n\n" + said):
        check = build([told.format(question) for question in asked])
        assert judge(check, told.format("Which bird is green?"), f"{said} Hm.").passed, told
        for question in (told.format(asked[5]), f"{asked[5]}{TOLD}"):
            assert judge(check, question).reason == "problem_contaminated", (told, question)
    assert judge(build([f"What is {n} + 4? {said}" for n in range(30)]), f"What is 3 + 5? {said}").passed


def test_a_set_of_two_problems_has_no_template(build, judge):
    check = build([STORY + TOLD, FORMULA + TOLD])
    assert not judge(check, STORY).passed
    assert judge(check, f"Name three birds that live near the sea.{TOLD}").passed


@pytest.mark.slow
def test_countdown_problems_with_other_numbers_are_no_leaks(judge):
    context = Context(student="none", benchmarks=("countdown-tiny:test",))
    check = ChosenFilter.of({}, "contamination").build(context)
    text = "We need 29 from the numbers 3, 7, 8. Use each number exactly once, with + - * / and parentheses."
    for problem in sets.load("countdown-tiny:train", "train", 700):
        assert judge(check, problem.messages[0].content, text).passed
    for problem in sets.load("countdown-tiny:test", "test", 100):
        assert not judge(check, problem.messages[0].content).passed


def test_without_benchmarks_there_is_nothing_to_compare_with(judge):
    for config in ({}, {"against": []}):
        check = ChosenFilter.of(config, "contamination").build(Context(student="none"))
        with pytest.raises(InputError, match="no benchmark"):
            judge(check, STORY)


def test_against_takes_the_place_of_the_recipes_sets(build, tmp_path, judge):
    path = tmp_path / "other.jsonl"
    path.write_text(json.dumps({"problem": FORMULA, "answer": "1"}) + "\nnot a row\n")
    check = build([STORY], against=[str(path)])
    assert judge(check, STORY).passed
    assert not judge(check, FORMULA).passed


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.one_of(st.text(max_size=300), st.lists(st.sampled_from([*STORY.split(), *CHINESE, "\n\n"])).map(" ".join))
)
def test_any_text_is_judged(check, judge, text):
    outcome = judge(check, text + "?", text)
    assert outcome.passed or outcome.detail


def test_a_long_loop_over_a_benchmarks_words_takes_no_long_time(check, judge):
    assert judge(check, "Something else?", "and then she sold half as many lanterns in May " * 20_000).passed


@pytest.mark.slow
def test_real_benchmarks(shared, build, judge):
    """No problem of one set is named as one of another; all are found with words put in, save those that are tiny."""
    train = [row["question"] for row in shared("gsm8k_train.jsonl")[:1500]]
    test = [row["question"] for row in shared("gsm8k_test.jsonl")[:600]]
    math = [row["problem"] for row in shared("math500.jsonl")[:300]]
    chinese = [row["question"] for row in shared("cmath_zh.jsonl")[:300]]
    check = build(test + math + chinese)
    for text in train:
        assert judge(check, text).passed, text
    for text in test[::5] + math[::5] + chinese[::5]:
        assert not judge(check, text).passed, text
        assert not judge(check, f"Here is one more.\n\n{text}\n\nThink well.").passed, text


@pytest.mark.slow
def test_real_traces_are_named_only_for_their_own_problem(shared, build, judge):
    rows = shared("real_traces.jsonl")[::4]
    asked = [*dict.fromkeys(row["problem"] for row in rows)]
    check = build(
        [row["question"] for row in shared("gsm8k_test.jsonl")[:600]]
        + [row["question"] for row in shared("cmath_zh.jsonl")]
    )
    own = {row["question"] for row in shared("gsm8k_test.jsonl")}
    for row in rows:
        if row["problem"] not in own:
            assert judge(check, "Something else?", row["text"]).passed, row["id"]
    assert len(asked) > 50
