"""Shipped pointers to benchmarks, read by `datasets` from local files that have the columns of the Hub's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill import resources
from distill.errors import InputError
from distill.problems import gold_checks, sets
from distill.problems.sets import RejectedProblem
from distill.types import Problem
from distill.verifiers import Verifiers

# columns as the Hub shows them; values are ours
GPQA = {
    "Question": "Which of these is a noble gas?\n",
    "Correct Answer": "Neon\n",
    "Incorrect Answer 1": "Iron",
    "Incorrect Answer 2": "Zinc",
    "Incorrect Answer 3": "Lead",
    "Record ID": "rec1",
    "Subdomain": "Inorganic Chemistry",
}
OLYMPIAD = {
    "id": 1,
    "question": "Solve $x^2 = 4$ and $x^3 = 27$.",
    "solution": ["So it is."],
    "final_answer": ["$-2,2,3$"],
    "context": None,
    "subject": "Math",
    "language": "English",
    "is_multiple_answer": True,
    "unit": None,
    "answer_type": "Numerical",
    "error": None,
}
MMLU = {
    "question_id": 70,
    "question": "What is 3 + 4?",
    "options": ["5", "6", "7", "8", "9", "10", "11", "12", "13", "14"],
    "answer": "C",
    "answer_index": 2,
    "cot_content": "",
    "category": "math",
    "src": "",
}
AIME = {"id": 60, "problem": "What is $204 + 0$?", "solution": "Add.", "answer": "204", "url": "", "year": "2024"}
ROWS: dict[str, tuple[str, dict[str, Any], Any, str]] = {
    # split, row, gold, a right answer
    "aime24": ("train", AIME, "204", "204"),
    "aime25": ("test", {"problem": "What is $2^3$?", "answer": "8", "id": "0"}, "8", "8"),
    "amc23": ("test", {"id": 0, "answer": "27.0", "question": "What is 3 cubed?", "url": ""}, "27.0", "27"),
    "math500": ("test", {**AIME, "subject": "Algebra", "level": 1, "unique_id": "test/1"}, "204", "204"),
    "minerva": ("test", {"question": "How many seconds has a minute?", "answer": "60"}, "60", "60"),
    "olympiadbench": ("train", OLYMPIAD, "$-2,2,3$", "3, -2, 2"),
    "gsm8k": ("test", {"question": "1 + 71?", "answer": "It is 1+71=<<1+71=72>>72.\n#### 72"}, "72", "72"),
    "gpqa-diamond": ("train", GPQA, None, ""),
    "mmlu-pro": ("test", MMLU, "C", "C"),
}


def local(name: str, folder: Path, split: str, row: dict[str, Any]) -> str:
    """The shipped YAML, its dataset replaced by a folder with one row."""
    facts = yaml.safe_load((resources.folder("data") / f"{name}.yaml").read_text())
    assert facts["splits"]["test"] == split
    repository = folder / name
    repository.mkdir()
    (repository / f"{split}.jsonl").write_text(json.dumps(row) + "\n")
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**facts, "dataset": str(repository), "config": None}))
    return str(path)


def read(ref: str) -> Problem:
    (found,) = sets.load(ref, "test", find_fault=gold_checks.screen(Verifiers()))
    return found


def letter_of(problem: Problem, option: str) -> str:
    (line,) = [line for line in problem.messages[0].content.splitlines() if line.endswith(f") {option}")]
    return line[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_a_benchmark_of_its_looked_up_columns(name: str, tmp_path: Path) -> None:
    split, row, gold, right = ROWS[name]
    found = read(local(name, tmp_path, split, row))
    question = row.get("problem") or row.get("question") or row["Question"]
    assert question.strip() in found.messages[0].content
    assert "\\boxed{}" in found.messages[0].content
    assert (found.set, found.language) == (name, "en"), "the dataset's own columns do not override the set's facts"
    if gold is None:
        gold = right = letter_of(found, "Neon")
    assert found.answer == gold
    assert Verifiers().of(found).verify(found.answer, f"So it is \\boxed{{{right}}}.").passed
    assert not Verifiers().of(found).verify(found.answer, "So it is \\boxed{Q}.").passed


def test_all_benchmarks_are_pointers_that_can_be_read() -> None:
    wanted = {*ROWS, "livecodebench", "countdown-tiny"}
    assert wanted <= set(sets.shipped_sets())
    for name in wanted - {"countdown-tiny"}:
        found, _, _ = sets.find(f"{name}:test")
        assert found.source == "hub"
        assert found.dataset
        assert found.revision is None or len(found.revision) == 40


def test_options_are_shuffled_by_content_and_the_letter_follows(tmp_path: Path) -> None:
    facts = yaml.safe_load((resources.folder("data") / "gpqa-diamond.yaml").read_text())
    rows = [{**GPQA, "Question": f"{n}?", "Correct Answer": f"right {n}"} for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    letters = {}
    for seed in (0, 1, None):
        path = tmp_path / f"{seed}.yaml"
        choices = {**facts["choices"], "shuffle": seed}
        own = {**facts, "source": "jsonl", "splits": {"test": "rows.jsonl"}, "choices": choices}
        path.write_text(yaml.safe_dump(own))
        found = list(sets.load(str(path), "test"))
        assert found == list(sets.load(str(path), "test"))
        assert all(problem.metadata == {"private": True} for problem in found)
        for number, problem in enumerate(found):
            assert letter_of(problem, f"right {number}") == problem.answer
        letters[seed] = [problem.answer for problem in found]
    assert letters[None] == ["A"] * 40
    assert letters[0] != letters[1]
    assert all(4 <= letters[0].count(letter) <= 18 for letter in "ABCD"), "no letter is favoured"


def test_rows_without_a_right_option_are_set_aside(tmp_path: Path) -> None:
    rows = [{"q": "?", "o": ["a", "b"], "i": place} for place in (2, -1, True, 1)] + [{"q": "?", "o": ["a"], "i": 0}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "own.yaml"
    path.write_text(
        "name: own\nsource: jsonl\nsplits: {test: rows.jsonl}\nprompt: '{q}\n\n{choices}'\n"
        "choices: {options: o, right: i}\nverifier: {kind: choice}\n"
    )
    bad: list[RejectedProblem] = []
    assert [problem.answer for problem in sets.load(str(path), "test", on_bad=bad.append)] == ["B"]
    assert [row.reason for row in bad] == [
        "its right option is 2 of 2",
        "its right option is -1 of 2",
        "its right option is True of 2",
        "has 1 options",
    ]


def test_a_commit_is_pinned_asked_for_or_unknown_and_never_made_up(tmp_path: Path) -> None:
    assert sets.hub_commit("mmlu-pro") == "3373e0b32277875b8db2aa555a333b78a08477ea"
    assert sets.hub_commit("aime24") is None, "the Hub cannot be reached from a test"
    assert sets.hub_commit("countdown-tiny") is None
    assert sets.hub_commit(local("gsm8k", tmp_path, *ROWS["gsm8k"][:2])) is None


def test_a_set_that_cannot_be_loaded_says_so(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(f"name: own\nsource: hub\ndataset: {tmp_path / 'nowhere'}\nsplits: {{test: test}}\n")
    with pytest.raises(InputError, match=r"cannot load dataset[\s\S]*give a local \.jsonl"):
        list(sets.load(str(path), "test"))
