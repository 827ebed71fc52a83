from __future__ import annotations

import random
import re
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill.filters import PASS, Candidate, ChosenFilter, Context
from distill.problems import sets
from distill.text.hashes import ngrams, sequence_hash
from distill.text.tokens import tokens
from distill.types import content_id

CONTEXT = Context(student="none")


class Listed:
    """Candidates from (trace id, problem id, fit, feature), in that order."""

    def __init__(self, items):
        self._items = items

    def __iter__(self):
        for number, (trace_id, problem_id, fit, feature) in enumerate(self._items):
            yield Candidate(number, trace_id, problem_id, number, fit, None, lambda: PASS, feature)

    def load(self, numbers):
        raise AssertionError("duplicates are found from features alone")


@pytest.fixture
def of_traces(make_problem, make_trace):
    def settle(texts, fit=None, **settings):
        check = ChosenFilter.of(settings, "duplicates").build(CONTEXT)
        problem = make_problem()
        fit = fit or [True] * len(texts)
        items = []
        for number, text in enumerate(texts):
            trace = make_trace(text)
            assert check(problem, trace).passed
            items.append((f"t{number}", "p", fit[number], check.feature(problem, trace)))
        return {f"t{number}": outcome for number, outcome in check.settle(Listed(items))}

    return settle


@pytest.fixture
def of_problems(make_problem, make_trace):
    def settle(questions, fit=None, **settings):
        check = ChosenFilter.of(settings, "duplicate_problems").build(CONTEXT)
        fit = fit or [True] * len(questions)
        trace = make_trace("any")
        items = [
            (f"t{n}", f"p{n}", fit[n], check.feature(make_problem(question), trace))
            for n, question in enumerate(questions)
        ]
        return dict(check.settle(Listed(items)))

    return settle


def story(seed: int, length: int = 300) -> str:
    rng = random.Random(seed)
    return " ".join(
        rng.choice(["so", "then", "we", "add", "the", "sum", "is", "wait"]) + f" {rng.randrange(99)}"
        for _ in range(length // 2)
    )


ONE, OTHER = story(1), story(2)


def edited(text: str, every: int) -> str:
    return " ".join("perhaps" if n % every == every - 1 else word for n, word in enumerate(text.split()))


def test_a_copy_is_an_exact_duplicate_also_in_other_case_spacing_and_punctuation(of_traces):
    found = of_traces([ONE, OTHER, ONE, ONE.upper().replace(" ", ",\n ")])
    assert found.keys() == {"t2", "t3"}
    assert {(o.passed, o.reason, o.score, o.detail) for o in found.values()} == {
        (False, "exact_duplicate", 1.0, "of t0")
    }


def test_a_lightly_edited_copy_is_a_near_duplicate_and_says_how_near(of_traces):
    found = of_traces([ONE, edited(ONE, 150), edited(ONE, 6)])
    assert found.keys() == {"t1"}
    assert found["t1"].reason == "near_duplicate"
    assert found["t1"].detail == f"of t0, similarity {found['t1'].score:.2f}"
    assert 0.9 < found["t1"].score < 1
    assert not of_traces([ONE, edited(ONE, 150)], similarity=1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3 + 7 = 10, not 9.", "3 - 7 = -4, not 9."),
        ("3 + 7", "3 - 7"),
        ("2 * (3 + 4)", "(2 * 3) + 4"),
        ("The answer is \\boxed{12}.", "The answer is \\boxed{21}."),
        ("x is 12", "x is 1 2"),
        ("小明有三个苹果", "小明有四个苹果"),
    ],
)
def test_signs_brackets_digits_and_characters_matter(of_traces, one, other):
    assert not of_traces([one, other])
    assert of_traces([one, one])


def test_the_same_phrases_with_other_numbers_are_another_trace(of_traces):
    def search(rng: random.Random) -> str:
        lines = [[rng.randrange(20) for _ in range(3)] for _ in range(12)]
        return "\n".join(f"Try {a} + {b} = {a + b}, times {c} is {(a + b) * c}. No." for a, b, c in lines)

    rng = random.Random(0)
    assert not of_traces([search(rng) for _ in range(200)])


def test_two_solutions_that_share_the_restated_problem_are_no_duplicates(of_traces):
    assert not of_traces([f"The problem says: {story(3, 100)}. {text}" for text in (ONE, OTHER)])


def test_the_first_fit_trace_stays_and_unfit_ones_make_no_duplicates(of_traces):
    assert of_traces([ONE, ONE, ONE], fit=[False, True, True]).keys() == {"t2"}
    assert of_traces([ONE, ONE, ONE], fit=[False, True, True])["t2"].detail == "of t1"
    assert of_traces([ONE, ONE, ONE], fit=[True, False, False]).keys() == {"t1", "t2"}
    assert not of_traces([ONE, ONE], fit=[False, False])


def test_each_rejected_trace_is_near_one_that_is_kept(of_traces):
    """No chains: a trace near a rejected one only is kept."""
    words = ONE.split()
    chain = [" ".join(["perhaps"] * n + words[n:]) for n in range(0, 120, 6)]
    found = of_traces(chain)
    kept = {f"t{n}" for n in range(len(chain))} - found.keys()
    assert len(kept) > 2
    assert found
    assert {outcome.detail.split()[1].rstrip(",") for outcome in found.values()} <= kept


def test_chinese_copies_are_found_and_different_problems_are_not(of_traces, shared):
    questions = [row["question"] for row in shared("cmath_zh.jsonl")]
    texts = [" ".join(questions[n : n + 6]) for n in range(0, 600, 6)]
    assert not of_traces(texts)
    edits = [text.replace("多少", "几", 1) for text in texts]
    found = of_traces(texts + edits)
    assert len(found) > 90
    assert all(int(key[1:]) >= 100 for key in found)


def test_traces_without_words_repeat_nothing(of_traces):
    assert not of_traces(["", "", "…", "。", "\n"])
    assert of_traces(["word", "word"]).keys() == {"t1"}


def test_a_thousand_copies_take_no_long_time(of_traces):
    assert len(of_traces([ONE] * 500 + [edited(ONE, 150)] * 500)) == 999


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=400))
def test_any_text_has_small_features_and_equals_itself(of_traces, make_problem, make_trace, text):
    found = of_traces([text, text])
    assert found.keys() <= {"t1"}
    for kind in ("duplicates", "duplicate_problems"):
        check = ChosenFilter.of({}, kind).build(CONTEXT)
        feature = check.feature(make_problem(text + "?" * 3), make_trace(text))
        assert feature is None or len(feature) <= 1000


def test_long_texts_have_small_features(make_problem, make_trace):
    text = " ".join(map(str, range(100_000)))
    for kind in ("duplicates", "duplicate_problems"):
        check = ChosenFilter.of({}, kind).build(CONTEXT)
        assert len(check.feature(make_problem(text), make_trace(text))) <= 1000


@pytest.mark.slow
def test_features_are_the_same_in_every_process():
    code = (
        "from tests.filters.test_duplicates import ONE\n"
        "from distill.text.hashes import ngrams\nfrom distill.text.tokens import tokens\n"
        "from distill.text.minhash import signatures\n"
        "from distill.types import content_id\nimport numpy as np\n"
        "runs = ngrams(tokens(ONE + '多少 x² \\\\dfrac{1}{2}').hashes, 5)\n"
        "print(content_id(signatures(runs, np.array([0, len(runs)], np.uint64)).tolist()))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "c373e369f01222a473ad"


# problems

STORY = (
    "Natalia sold clips to 48 of her friends in the month of April, and then she sold half as many clips in the"
    " month of May. How many clips did Natalia sell altogether in April and May?"
)


def test_a_reworded_problem_is_a_duplicate_and_one_with_other_numbers_is_not(of_problems):
    found = of_problems(
        [STORY, STORY.replace("altogether ", ""), STORY.replace("48", "50"), STORY.replace("half", "twice")]
    )
    assert found.keys() == {1}
    assert (found[1].passed, found[1].reason) == (False, "duplicate_problem")
    assert found[1].detail == f"of problem p0, similarity {found[1].score:.2f}"
    assert of_problems([STORY, STORY.replace("48", "50")], numbers=False, similarity=0.8).keys() == {1}


def test_a_problem_of_which_nothing_is_kept_makes_no_duplicates(of_problems):
    assert of_problems([STORY, STORY + " ", STORY + "!!"], fit=[False, True, True]).keys() <= {2}
    assert of_problems([STORY, STORY.upper(), STORY.lower()], fit=[False, True, True]).keys() == {2}
    assert of_problems([STORY, STORY.upper()], fit=[False, True]) == {}


def test_all_traces_of_the_later_problem_are_rejected(make_problem, make_trace):
    check = ChosenFilter.of({}, "duplicate_problems").build(CONTEXT)
    first, second = (check.feature(make_problem(text), make_trace("any")) for text in (STORY, STORY.upper()))
    # the first problem's only fit trace is its last
    items = [("a", "p", False, first), ("b", "p", True, first), ("c", "q", True, second), ("d", "q", False, second)]
    assert [number for number, _ in check.settle(Listed(items))] == [2, 3]


def test_shared_instructions_make_no_problems_alike(of_problems):
    told = "\n\nPlease reason step by step, and put your final answer within \\boxed{}. Do not guess. Check it twice."
    names = [f"{a}{b}" for a in "bdfgklmn" for b in ("ana", "oro", "ilu", "ese", "ubu", "yny")]
    assert not of_problems([f"Who was {name} of {name[::-1]}?{told}" for name in names])


@pytest.mark.slow
def test_real_problems(of_problems, shared):
    texts = [row["question"] for row in shared("gsm8k_train.jsonl")[:2000] + shared("gsm8k_test.jsonl")]
    texts += [row["problem"] for row in shared("math500.jsonl")]
    assert not of_problems(texts)
    assert not of_problems([row["question"] for row in shared("cmath_zh.jsonl")])


def test_countdown_problems_are_all_different(of_problems):
    texts = [problem.messages[0].content for problem in sets.load("countdown-tiny:train", "train", 1500)]
    assert not of_problems(texts)


# words and their hashes

ascii_texts = st.text("abcXYZ0123 +-*/^=<>%!()[]{}|.,;:?$_\n", max_size=200)


def words(text: str) -> list[str]:
    text = re.sub(r"(?<=[a-z])-(?=[a-z])", " ", text.lower())
    return re.findall(r"[a-z]+|\d+|[-+*/^=<>%!()\[\]{}|]", text)


@given(one=ascii_texts, other=ascii_texts)
def test_hashes_are_equal_exactly_where_words_are(one, other):
    ours = [*tokens(one).hashes.tolist(), *tokens(other).hashes.tolist()]
    theirs = words(one) + words(other)
    assert len(ours) == len(theirs)
    assert len(set(ours)) == len(set(theirs)) == len(set(zip(ours, theirs, strict=True)))


@given(one=st.text(max_size=100), other=st.text(max_size=100))
def test_words_do_not_depend_on_their_place(one, other):
    joined = tokens(f"{one}\n{other}").hashes.tolist()
    assert joined == [*tokens(one + "\n").hashes.tolist(), *tokens("\n" + other).hashes.tolist()]


@given(text=st.text(max_size=200), n=st.integers(1, 9))
def test_runs_and_sequences(text, n):
    hashes = tokens(text).hashes
    runs = ngrams(hashes, n)
    assert len(runs) == max(0, len(hashes) - n + 1)
    assert ngrams(hashes[1:], n).tolist() == runs[1:].tolist()
    assert (sequence_hash(hashes) == 0) == (len(hashes) == 0)


def test_words_begin_where_they_say():
    found = tokens("Don't long-term 3-7 x²+２ Ａb 小明有12个 \\dfrac{1}{2}×")
    assert "".join(found.text[start] for start in found.starts) == "Dtlt3-7x²+２Ａ小明有1个f{1}{2}×"


def test_ways_to_write_the_same_give_the_same_words():
    for one, other in [
        ("x² + 1", "x2＋1"),
        ("ＡＢ１２", "ab12"),
        ("\\dfrac{1}{2}", "\\frac{1}{2}"),
        ("3×4", "3*4"),
        ("é", "e\u0301"),
    ]:
        assert tokens(one).hashes.tolist() == tokens(other).hashes.tolist()
    assert tokens("\\left( \\text{cm} \\right)").hashes.tolist() == tokens("({cm})").hashes.tolist()


def test_a_giant_text_is_handled_in_parts():
    text = "word 12 " * 60_000
    found = tokens(text)
    assert abs(len(found) - 120_000) < 10
    assert len(set(found.hashes.tolist())) < 12
    assert content_id(sequence_hash(found.hashes)) != content_id(sequence_hash(found.hashes[1:]))
