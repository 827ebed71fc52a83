"""LiveCodeBench rows: both kinds of problem, packed tests, and golds that the code verifier really runs."""

from __future__ import annotations

import base64
import json
import pickle
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill import resources
from distill.problems import livecodebench, sets
from distill.problems.sets import RejectedProblem
from distill.types import Problem
from distill.verifiers import Verifiers

needs_sandbox = pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")
STARTER = "class Solution:\n    def total(self, numbers: List[int], more: int) -> int:\n        "


def packed(value: Any) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def case(kind: str, given: str, wanted: str) -> dict[str, str]:
    return {"input": given, "output": wanted, "testtype": kind}


def row(**changes: Any) -> dict[str, Any]:
    private = [case("stdin", "5 6\n", "11\n"), case("stdin", "0 0\n", "0\n")]
    return {
        "question_title": "Sum",
        "question_content": "Print the sum of two numbers.",
        "platform": "atcoder",
        "question_id": "abc1",
        "contest_id": "abc",
        "contest_date": "2024-08-03T00:00:00",
        "starter_code": "",
        "difficulty": "easy",
        "public_test_cases": json.dumps([case("stdin", "1 2\n", "3\n")]),
        "private_test_cases": packed(json.dumps(private)),
        "metadata": "{}",
        **changes,
    }


def method() -> dict[str, Any]:
    return row(
        question_content="Add them all.",
        starter_code=STARTER,
        public_test_cases=json.dumps([case("functional", "[1, 2]\n3", "6")]),
        private_test_cases=json.dumps([case("functional", "[]\n-1", "-1")]),
        metadata=json.dumps({"func_name": "total"}),
    )


def load(folder: Path, *rows: dict[str, Any]) -> tuple[list[Problem], list[RejectedProblem]]:
    """The shipped YAML on a folder that has the files of the repository."""
    facts = yaml.safe_load((resources.folder("data") / "livecodebench.yaml").read_text())
    (folder / "test4.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows[:1]))
    (folder / "test5.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows[1:]))
    (folder / "lcb.yaml").write_text(yaml.safe_dump({**facts, "dataset": str(folder)}))
    bad: list[RejectedProblem] = []
    return list(sets.load(str(folder / "lcb.yaml"), "test", on_bad=bad.append)), bad


def test_a_program_that_reads_its_input(tmp_path: Path) -> None:
    (found,), bad = load(tmp_path, row())
    assert not bad
    assert found.answer == {"inputs": ["1 2\n", "5 6\n", "0 0\n"], "outputs": ["3\n", "11\n", "0\n"]}
    assert found.messages[0].content.startswith("Print the sum of two numbers.\n\nWrite a Python program")
    assert (found.set, found.verifier, found.licence) == ("livecodebench", {"kind": "code"}, "cc")


@pytest.mark.slow
@needs_sandbox
def test_right_and_wrong_programs_of_both_kinds(tmp_path: Path) -> None:
    found, _ = load(tmp_path, row(), method())
    judge = Verifiers()
    programs = {
        "print(sum(map(int, input().split())))": (True, False),
        "print(3)": (False, False),
        f"{STARTER}return sum(numbers) + more": (False, True),
        f"{STARTER}return 6": (False, False),
    }
    for program, expected in programs.items():
        text = f"Here it is.\n\n```python\n{program}\n```"
        assert tuple(judge.of(one).verify(one.answer, text).passed for one in found) == expected, program
    assert STARTER.strip() in found[1].messages[0].content


def test_rows_that_cannot_be_read_are_set_aside(tmp_path: Path) -> None:
    _, bad = load(
        tmp_path,
        row(question_content="a", private_test_cases="no tests"),
        row(question_content="b", private_test_cases=packed(Path("x"))),
        row(question_content="c", private_test_cases=packed(json.dumps({"input": "1"}))),
        row(question_content="d", public_test_cases="[]", private_test_cases="[]"),
        {**method(), "metadata": json.dumps({"func_name": "x(); import os"})},
        {key: value for key, value in row(question_content="f").items() if key != "metadata"} | {"starter_code": "x"},
    )
    reasons = [one.reason for one in bad]
    assert [reason.split(":")[0] for reason in reasons[:3]] == [
        "its private tests cannot be read",
        "its private tests cannot be read",
        "its tests are not a list of inputs and outputs",
    ]
    assert "it asks for pathlib" in reasons[1], "a pickle makes plain data or nothing"
    assert reasons[3:] == ["has no tests", "its method's name is 'x(); import os'", "lacks the field 'metadata'"]


def test_a_tuple_is_as_good_as_a_list() -> None:
    space: dict[str, Any] = {}
    gold = livecodebench.parse_row(method())["answer"]
    exec(gold["prompt"] + "\nclass Solution:\n    def total(self, *given):\n        return (1, 2)", space)
    assert space["call_solution"]([1], 2) == [1, 2]
