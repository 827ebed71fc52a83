from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distill.machine import killable
from distill.types import Message, Problem
from distill.verifiers import math
from tests.conftest import make_trace as a_trace

VERIFIER = math.build(math.Config())
FOLDER = Path(os.environ.get("DISTILL_SHARED_DATA", Path(__file__).parents[2] / "../shared/data"))


def rows(name):
    if not (FOLDER / name).is_file():
        pytest.skip(f"no {name} in {FOLDER} (set DISTILL_SHARED_DATA)")
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("14,16", "14, 16"),
        ("\\frac{14}{3}", "\\dfrac{14}{3}"),
        ("0.5", "\\frac{1}{2}"),
        ("\\text{East}", "east"),
        ("1000", "1 000"),
        ("\\$18.90", "18.90"),
        ("10", "10\\text{ units}"),
        ("90^\\circ", "90"),
        ("(x+1)^2", "x^2 + 2x + 1"),
        ("28\\%", "0.28"),
        ("\\left(3,\\frac{\\pi}{2}\\right)", "( 3, \\frac{\\pi}{2} )"),
        (["1", "\\sqrt{2}"], "\\sqrt{2}"),
        (5, "5.0"),
    ],
)
def test_equal(gold, answer):
    assert VERIFIER.verify(gold, f"So the answer is \\boxed{{{answer}}}.").passed is True


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("10 \\text{ m}", "10 \\text{ cm}"),
        ("(1,2)", "\\{1,2\\}"),
        ("[0,1)", "(0,1)"),
        ("\\frac{1}{2^{99}}", "\\frac{1}{2^{98}}"),
        ("9", "9\\%"),
        ("9", "0.09"),
        ("204_5", "204_6"),
        ("12", "1 2"),
        ("1\\frac{1}{2}", "\\frac{11}{2}"),
        ("5", "5x"),
        ("42", "two"),
        ("\\text{dog}", "god"),
    ],
)
def test_different(gold, answer):
    assert VERIFIER.verify(gold, f"So the answer is \\boxed{{{answer}}}.").passed is False


def test_only_the_last_box_counts_unless_boxes_are_joined():
    assert VERIFIER.verify("2", "\\boxed{1} then \\boxed{2}").passed is True
    assert VERIFIER.verify("1", "\\boxed{1} then \\boxed{2}").passed is False
    assert VERIFIER.verify("1, 2", "$\\boxed{1}$ and $\\boxed{2}$").passed is True
    assert VERIFIER.verify("2", "$\\boxed{1}$ and $\\boxed{2}$").passed is False


def test_a_percent_sign_behind_the_box_counts_where_the_gold_has_one():
    assert VERIFIER.verify("28\\%", "$\\boxed{28}\\%$").passed is True
    assert VERIFIER.verify("28", "$\\boxed{28}\\%$").passed is True
    assert VERIFIER.verify("28\\%", "$\\boxed{28}$").passed is False


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("[-2,7]", "x \\in [-2,7]"),
        ("(-\\infty, 0]", "x \\le 0"),
        ("(2,12) \\cup (12,102)", "(12,102) \\cup (2,12)"),
        ("x=5", "5"),
        ("1,-2", "x=-2 \\text{ or } x=1"),
        ("1 \\pm \\sqrt{19}", "1-\\sqrt{19}, 1+\\sqrt{19}"),
        ("\\{1\\pm\\sqrt{5},-2\\}", "-2, 1+\\sqrt5, 1-\\sqrt5"),
        ("3, 5, 7", "7, 5 \\text{ and } 3"),
        ("x_{1}=1,\\quad x_{2}=\\frac{1+\\sqrt{5}}{2}", "\\frac{1}{2}+\\frac{\\sqrt{5}}{2}, 1"),
        ("\\begin{pmatrix} -2 \\\\ \\frac{1}{5} \\end{pmatrix}", "(-2, 0.2)"),
        ("MR=SRMC", "SRMC=MR"),
        ("\\text{(C)}", "C"),
        ("(C) 15", "15"),
        ("15 \\mbox{ cm}^2", "15"),
        ("2 \\text{ hours}", "120 minutes"),
        ("\\$36", "36 dollars"),
        ("12", "12\\text{页}"),
        ("12", "答案是１２"),
        ("3/4", "\\dfrac34"),
        ("137 \\frac{1}{2}", "\\frac{275}{2}"),
        ("8.7 \\times 10^{8}", "870000000"),
        ("11,\\! 111,\\! 100", "11111100"),
        ("\\sqrt{2}", "√2"),
        ("x^2", "x²"),
        ("7\\pi", "7*pi"),
        ("-1", "e^{i\\pi}"),
        ("\\frac{1}{3}", "\\frac{1}{3} \\approx 0.333"),
        ("2", "2:00"),
        ("Architectureclass", "Architecture class"),
        ("elephant", "The elephant"),
    ],
)
def test_other_ways_to_write_it(gold, answer):
    assert VERIFIER.verify(gold, f"\\boxed{{{answer}}}").passed is True
    assert VERIFIER.verify(gold, f"<answer>{answer}</answer>").passed is True


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("15 \\mbox{ cm}^2", "15 \\text{ m}^2"),
        ("12 \\text{ miles}", "12 \\text{ hours}"),
        ("5.4 \\text{ cents}", "\\$5.4"),
        ("3", "3 \\text{ or } 4"),
        ("3500", "3, 500"),
        ("1 \\pm \\sqrt{19}", "1+\\sqrt{19}"),
        ("(1,2)", "(2,1)"),
        ("x \\geq 5", "x > 5"),
        ("(5,\\infty)", "x \\ge 5"),
        ("3R^2", "3r^2"),
        ("5", "5 million"),
        ("\\sqrt{2}", "1.4142"),
        ("\\pi", "3.14"),
        ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "\\begin{pmatrix} 1 & 3 \\\\ 2 & 4 \\end{pmatrix}"),
        ("correct answer", "Wrong answer"),
    ],
)
def test_more_that_is_different(gold, answer):
    assert VERIFIER.verify(gold, f"\\boxed{{{answer}}}").passed is False


@pytest.mark.parametrize(
    ("gold", "answer"), [("5", "x \\geq 5"), ("m < 3", "3"), ("1", "a >= 1"), ("\\frac12", "x \\ne 1")]
)
def test_a_range_is_no_number_which_takes_no_algebra(monkeypatch, gold, answer):
    monkeypatch.setattr(killable, "shared", lambda: pytest.fail("the library was asked"))
    assert VERIFIER.verify(gold, f"\\boxed{{{answer}}}").passed is False


@pytest.mark.parametrize(
    ("gold", "reply"),
    [
        ("84", "4 × 21 = 84 times.\n\nThus, Robert went down **84 times**."),
        ("36", "0.90 × $40 = $36.\n\nBoth ways give a final price of **$36**."),
        ("8", "\\[ \\frac{\\$216}{27} = \\$8 \\]\n\n**Answer:** The average price per ticket is \\$8."),
        ("6", "2 + 4\n\n**Answer**: She should buy **6 scoops** of ice cream."),
        ("(3, \\frac{\\pi}{2})", "The angle is known.\n\nThus, the point is \\((3, \\frac{\\pi}{2})\\)."),
        ("x \\neq 3", "We find that $x != 3$."),
        ("12", "一共有5+7页。\n答：还剩12页。"),
        ("4", "<think>\\boxed{5}</think>The answer is 4."),
        ("12 km/h", "12 km/h"),
    ],
)
def test_unmarked_replies_are_read_at_their_end(gold, reply):
    assert VERIFIER.verify(gold, reply).passed is True
    assert VERIFIER.verify("77", reply).passed is False


def test_reasoning_never_counts():
    assert VERIFIER.verify("5", "<think>\\boxed{5}</think>I do not know.").passed is False
    assert VERIFIER.verify("5", "<think>It is \\boxed{5}").reason == "no_answer"


def test_a_list_of_golds_means_any_of_them():
    golds = ["6630.65\n", "6630\n"]
    assert [VERIFIER.verify(golds, f"\\boxed{{{n}}}").passed for n in ("6630.65", "6630", "6631")] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("answer", ["9^{9^{9^9}}", "9^9^9", "(9^{99999})^{99999}", "100000!", "3!!", "1" * 2000])
def test_what_would_take_for_ever_is_undecidable(answer):
    outcome = VERIFIER.verify("x", f"\\boxed{{{answer}}}")
    assert (outcome.passed, outcome.reason) == (None, "too_costly")


def test_an_ellipsis_is_undecidable():
    assert VERIFIER.verify("1,2,\\ldots,10", "\\boxed{1,2,10}").reason == "undecidable"


def test_keys_are_equal_for_equal_answers():
    keys = {VERIFIER.key("", f"\\boxed{{{answer}}}") for answer in ("0.5", "\\frac{1}{2}", "1/2", ".5")}
    assert len(keys) == 1
    assert VERIFIER.key("", "\\boxed{1, -2}") == VERIFIER.key("", "\\boxed{\\{-2, 1\\}}")
    assert VERIFIER.key("", "\\boxed{x = 5}") == VERIFIER.key("", "\\boxed{5 \\text{ cm}}")
    assert VERIFIER.key("", "\\boxed{x + 1}") == VERIFIER.key("", "<answer>x+1</answer>")


def test_importing_it_loads_no_algebra():
    code = "import sys, distill.verifiers.math; sys.exit('sympy' in sys.modules or 'math_verify' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_pairs_of_public_graders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pairs = rows("answer_pairs.jsonl")
    firm = [row for row in pairs if row["label_kind"] == "firm"]
    agreed = [VERIFIER.verify(row["gold"], row["pred"]).passed is row["expected"] for row in firm]
    assert sum(agreed) / len(agreed) >= 0.97
    assert not any(VERIFIER.verify(r["gold"], r["pred"]).passed for r in pairs if r["label_kind"] == "security")
    assert not list(tmp_path.iterdir())


def golds(name):
    if name == "minerva.jsonl":
        return [row["answer"] for row in rows(name)]
    return [row["answer"].rpartition("####")[2].strip() for row in rows(name)]


@pytest.mark.parametrize("name", ["math500.jsonl", "minerva.jsonl", "gsm8k_test.jsonl", "cmath_zh.jsonl"])
def test_golds_accept_themselves_and_their_rewritings(name):
    for gold in golds(name):
        for one in gold if isinstance(gold, list) else [gold]:
            examples = VERIFIER.examples(one)
            for text in examples.right:
                for wrap in ("\\boxed{%s}", "<answer>%s</answer>"):
                    assert VERIFIER.verify(one, wrap % text).passed is True, (gold, text)
            for text in examples.wrong:
                assert VERIFIER.verify(one, f"\\boxed{{{text}}}").passed is False, (gold, text)


def test_real_golds_match_their_solutions():
    for row in rows("math500.jsonl"):
        assert VERIFIER.verify(row["answer"], row["solution"]).passed is True, row["answer"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["math500.jsonl", "minerva.jsonl", "gsm8k_test.jsonl", "cmath_zh.jsonl"])
def test_shuffled_golds_are_refused(name):
    found = golds(name)
    texts = [gold[0] if isinstance(gold, list) else gold for gold in found]
    for gold, text, other in zip(found, texts, texts[1:] + texts[:1], strict=True):
        if VERIFIER.key("", f"\\boxed{{{text}}}") != VERIFIER.key("", f"\\boxed{{{other}}}"):
            assert VERIFIER.verify(gold, f"\\boxed{{{other}}}").passed is not True, (gold, other)


def test_verdicts_on_real_traces():
    from distill.verifiers import Verifiers

    verifiers, agreed = Verifiers(), []
    for row in rows("real_traces.jsonl"):
        if row["domain"] == "math" and row["truth"] in ("correct", "incorrect"):
            problem = Problem.make((Message(role="user", content=row["problem"]),), answer=row["reference"])
            outcome = verifiers.judge(problem, a_trace(row["text"], prefill=""))
            agreed.append(outcome.passed is (row["truth"] == "correct"))
    assert sum(agreed) / len(agreed) >= 0.97
