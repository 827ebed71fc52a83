"""Golds that check themselves: types, faults, and what a set loses to them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from distill.errors import InputError
from distill.problems import gold_checks, sets
from distill.stages import load_problems
from distill.types import Message, Problem
from distill.verifiers import Verifiers

VERIFIERS = Verifiers()


def checked(answer, kind="math", **options):
    problem = Problem.make((Message(role="user", content="?"),), answer=answer, verifier={"kind": kind, **options})
    return gold_checks.check(problem, VERIFIERS)


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("18", "integer"),
        (18, "integer"),
        ("-1,234", "integer"),
        ("0.75", "decimal"),
        ("8.7 \\times 10^{8}", "decimal"),
        ("\\frac{3}{4}", "fraction"),
        ("2/6", "fraction"),
        ("12%", "percent"),
        ("15\\mbox{ cm}^2", "quantity"),
        ("90^\\circ", "quantity"),
        ("x^2+1", "expression"),
        ("\\frac{\\sqrt{3}}{3}", "expression"),
        ("y = 2x + 3", "equation"),
        ("x \\le 3", "relation"),
        ("1,-2", "list"),
        ("\\{1,2\\}", "set"),
        ("(0,9) \\cup (9,36)", "union"),
        ("(3,4]", "interval"),
        ("(6,31,-1)", "tuple"),
        ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "matrix"),
        ("\\text{(C)}", "choice"),
        ("\\text{east}", "text"),
        (["0.5", "\\frac{1}{2}"], "decimal"),
        ("1, 2, \\ldots, 10", "list"),
        (None, "none"),
    ],
)
def test_sound_golds_and_their_types(answer, name):
    found = checked(answer)
    assert (found.ok, found.type, found.reason) == (True, name, "")


@pytest.mark.parametrize(
    ("kind", "answer", "name"),
    [
        ("exact", "Paris", "text"),
        ("exact", ["Paris", "Lutetia"], "text"),
        ("choice", "J", "choice"),
        ("numeric", 3.5, "decimal"),
        ("numeric", "1,234", "integer"),
        ("countdown", {"target": 24, "numbers": [3, 8]}, "numbers"),
        ("code", {"inputs": ["1\n"], "outputs": ["1\n"]}, "tests"),
    ],
)
def test_other_kinds(kind, answer, name):
    found = checked(answer, kind)
    assert (found.ok, found.type) == (True, name)


@pytest.mark.parametrize(
    ("kind", "answer", "reason"),
    [
        ("math", "", "not a gold of `math`"),
        ("math", {"a": 1}, "not a gold of `math`"),
        (
            "math",
            "Since every even number above two is the sum of two primes, the claim follows by induction",
            "sentence",
        ),
        ("choice", "K", "not a gold of `choice`"),
        ("numeric", "many", "not a gold of `numeric`"),
        ("countdown", {"target": 24}, "not a Countdown gold"),
        ("code", "print(1)", "gold of `code`"),
    ],
)
def test_faulty_golds_say_why(kind, answer, reason):
    found = checked(answer, kind)
    assert not found.ok
    assert reason in found.reason


LENIENT = """
from distill.types import Examples, Outcome, Record
from distill.verifiers import Verifier
class Config(Record): pass
class Lenient(Verifier):
    def verify(self, gold, text): return Outcome(passed=bool(text) or gold == "all")
    def key(self, gold, text): return None
    def examples(self, gold): return Examples("text", [gold], ["other"])
def build(config): return Lenient()
"""


def test_a_gold_that_accepts_a_different_answer_is_found(tmp_path):
    path = tmp_path / "lenient.py"
    path.write_text(LENIENT)
    assert checked("5", str(path)).reason == "the gold '5' accepts 'other'"
    assert checked("all", str(path)).reason == "an empty answer passes"


def write(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_bad_golds_are_set_aside_and_do_not_count_towards_the_limit(tmp_path):
    rows = [{"problem": f"{n}?", "answer": answer} for n, answer in enumerate(["1", "", None, "\\text{east}", "7"])]
    loaded, rejected = load_problems(write(tmp_path / "a.jsonl", *rows), "train", 3)
    assert [problem.answer for problem in loaded] == ["1", None, "\\text{east}"]
    assert [(row.line, row.reason.split(":")[0]) for row in rejected] == [(2, "its gold fails")]
    assert len(list(sets.load(str(tmp_path / "a.jsonl"), "train"))) == 5


def test_no_problem_left_is_an_error_with_the_first_reason(tmp_path):
    ref = write(tmp_path / "a.jsonl", {"problem": "?", "answer": "K", "verifier": {"kind": "choice"}})
    with pytest.raises(InputError, match=r"no usable problem: its gold fails: not a gold of `choice`.*line 1"):
        load_problems(ref, "train", None)


def test_an_unknown_verifier_is_the_users_error(tmp_path):
    ref = write(tmp_path / "a.jsonl", {"problem": "?", "answer": "1", "verifier": {"kind": "maths"}})
    with pytest.raises(InputError, match="did you mean math"):
        load_problems(ref, "train", None)


@pytest.mark.slow
def test_ten_thousand_golds_cost_about_a_second():
    loaded = list(sets.load("countdown-tiny", "train"))
    start = time.process_time()
    assert all(gold_checks.check(problem, VERIFIERS).ok for problem in loaded)
    assert time.process_time() - start < 2.0
