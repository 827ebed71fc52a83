from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distill.verifiers import math

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


@pytest.mark.parametrize("answer", ["9^{9^{9^9}}", "9^9^9", "(9^{99999})^{99999}", "100000!", "3!!", "1" * 2000])
def test_what_would_take_for_ever_is_undecidable(answer):
    outcome = VERIFIER.verify("x", f"\\boxed{{{answer}}}")
    assert (outcome.passed, outcome.reason) == (None, "too_costly")


def test_an_ellipsis_is_undecidable():
    assert VERIFIER.verify("1,2,\\ldots,10", "\\boxed{1,2,10}").reason == "undecidable"


def test_keys_are_equal_for_equal_answers():
    keys = {VERIFIER.key("", f"\\boxed{{{answer}}}") for answer in ("0.5", "\\frac{1}{2}", "1/2", ".5")}
    assert len(keys) == 1
    assert VERIFIER.key("", "\\boxed{x + 1}") == VERIFIER.key("", "<answer>x+1</answer>")


def test_importing_it_loads_no_algebra():
    code = "import sys, distill.verifiers.math; sys.exit('sympy' in sys.modules or 'math_verify' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_pairs_of_public_graders():
    firm = [row for row in rows("answer_pairs.jsonl") if row["label_kind"] == "firm"]
    agreed = [VERIFIER.verify(row["gold"], row["pred"]).passed is row["expected"] for row in firm]
    assert sum(agreed) / len(agreed) >= 0.94


def test_real_golds_are_their_own_answers():
    for row in rows("math500.jsonl"):
        assert VERIFIER.verify(row["answer"], f"\\boxed{{{row['answer']}}}").passed is True, row["answer"]
        assert VERIFIER.verify(row["answer"], row["solution"]).passed is True, row["answer"]
