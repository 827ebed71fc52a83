"""Gold and predicted answers in, verdicts out."""

from __future__ import annotations

import io
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from distill import plugins
from distill.errors import InputError, RunError
from distill.evaluation import answer_pairs
from distill.evaluation.answer_pairs import JudgedPair, Summary, after_reasoning
from distill.progress import LogLines

COUNTDOWN = {"target": 29, "numbers": [3, 7, 8]}


def verify(folder: Path, *rows: Any, **options: Any) -> list[dict[str, Any]]:
    return [json.loads(judged.verdict_line) for judged in judge(folder, *rows, **options)]


def judge(folder: Path, *rows: Any, **options: Any) -> list[JudgedPair]:
    path = folder / "pairs.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return list(answer_pairs.verify(path, **options))


def test_a_verdict_a_row_in_their_order(tmp_path: Path) -> None:
    found = verify(
        tmp_path,
        {"gold": "1/2", "pred": "\\boxed{0.5}", "id": "a"},
        {"gold": "1/2", "pred": "<answer>2</answer>"},
        {"gold": COUNTDOWN, "pred": "(3 * 7) + 8", "kind": "countdown", "id": 7},
        {"gold": "B", "pred": "(B)", "kind": "choice", "other": [1]},
        {"gold": 5, "pred": 5},
        {"gold": "5", "pred": None},
    )
    assert found[0] == {"id": "a", "passed": True, "reason": "", "score": 1.0, "detail": ""}
    assert [row["passed"] for row in found] == [True, False, True, True, True, False]
    assert [row["reason"] for row in found] == ["", "wrong_answer", "", "", "", "no_answer"]
    assert [row.get("id") for row in found] == ["a", None, 7, None, None, None]
    assert ["id" in row for row in found] == [True, False, True, False, False, False]


def test_the_kind_of_rows_that_name_none(tmp_path: Path) -> None:
    rows = {"gold": "B", "pred": "(C)"}, {"gold": "2", "pred": "2.0", "kind": "numeric"}
    found = verify(tmp_path, *rows, kind="choice")
    assert [(row["passed"], row["detail"]) for row in found] == [(False, "C, not B"), (True, "")]


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("5", "5"),
        ("<think>is it 6?</think>5", "5"),
        ("is it 6?\n</think>\n5", "\n5"),
        ("6</think>7</think>5", "5"),
        ("<think>\\boxed{5}", ""),
        ("</think>6<think>\\boxed{5}", "6"),
    ],
)
def test_reasoning_is_left_out(reply: str, answer: str) -> None:
    assert after_reasoning(reply) == answer


def test_reasoning_decides_nothing(tmp_path: Path) -> None:
    found = verify(
        tmp_path,
        {"gold": "5", "pred": "<think>\\boxed{5}</think> \\boxed{6}"},
        {"gold": "5", "pred": "<think>\\boxed{5}, I am sure"},
        {"gold": "5", "pred": "<think>\\boxed{6}</think> \\boxed{5}"},
    )
    assert [(row["passed"], row["reason"]) for row in found] == [
        (False, "wrong_answer"), (False, "no_answer"), (True, "")
    ]  # fmt: skip


BAD = {
    "not json": "is not JSON",
    '{"gold": "1", "pred": ': "is not JSON",
    '{"gold": NaN, "pred": "1"}': "is not JSON: NaN",
    "[" * 100_000: "is not JSON",
    "[1, 2]": "is not a JSON object",
    '{"pred": "1"}': "has no `gold`",
    '{"gold": null, "pred": "1"}': "has no `gold`",
    '{"gold": "1"}': "has no `pred`",
    '{"gold": "1", "pred": ["1"]}': "`pred` should be a text",
    '{"gold": "1", "pred": true}': "`pred` should be a text",
    '{"gold": "1", "pred": "1", "kind": "maths"}': "unknown kind 'maths'; choices: ",
    '{"gold": "1", "pred": "1", "kind": 3}': "unknown kind 3",
    '{"gold": "1", "pred": "1", "kind": "judge"}': "endpoint: is required",
    '{"gold": "", "pred": "1"}': "not a gold of `math`",
    '{"gold": {"target": 3}, "pred": "1", "kind": "countdown"}': "not a Countdown gold",
}


@pytest.mark.parametrize("line", BAD, ids=range(len(BAD)))
def test_a_bad_row_is_named_and_costs_no_other(tmp_path: Path, line: str) -> None:
    good = {"gold": "1", "pred": "1"}
    found = verify(tmp_path, good, "", line, good)
    assert [row["passed"] for row in found] == [True, None, True]
    assert found[1]["reason"] == "bad_row"
    assert found[1]["detail"].startswith("line 3: ")
    assert BAD[line] in found[1]["detail"]


def test_a_bad_row_keeps_its_id(tmp_path: Path) -> None:
    assert verify(tmp_path, {"id": "x", "pred": "1"})[0]["id"] == "x"


def test_a_row_cannot_name_a_file_to_run(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    row = {"gold": "1", "pred": "1", "kind": str(tmp_path / "mine.py")}
    assert verify(tmp_path, row)[0]["reason"] == "bad_row"
    assert not (tmp_path / "ran").exists()


MINE = """
import os, pathlib
from distill.types import Outcome, Record
from distill.verifiers import Verifier

class Config(Record):
    pass

class Mine(Verifier):
    def verify(self, gold, text):
        if text == "crash":
            raise RuntimeError("a bug")
        if text == "die":
            os._exit(3)
        return Outcome(passed=text == gold, reason="" if text == gold else "differs", detail=str(os.getpid()))

    def key(self, gold, text):
        return text

def build(config):
    return Mine()
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(MINE)
    return str(tmp_path / "mine.py")


def test_a_verifiers_bug_costs_one_row(tmp_path: Path, mine: str) -> None:
    found = verify(tmp_path, *({"gold": "a", "pred": pred} for pred in ("a", "crash", "b")), kind=mine)
    assert [(row["passed"], row["reason"]) for row in found] == [
        (True, ""), (None, "verifier_error"), (False, "differs")
    ]  # fmt: skip
    assert found[1]["detail"] == "RuntimeError: a bug"


@pytest.mark.slow
def test_all_cores_give_what_one_gives_and_a_death_costs_one_row(tmp_path: Path, mine: str) -> None:
    rows = [{"gold": "a", "pred": "die" if n == 350 else "ab"[n % 2], "id": n} for n in range(900)]
    found = verify(tmp_path, *rows, kind=mine, workers=2)
    assert [row["id"] for row in found] == list(range(900))
    assert found[350]["reason"] == "worker_died"
    assert found[350]["passed"] is None
    assert {row["passed"] for row in found[::2] if row["id"] != 350} == {True}
    assert {row["passed"] for row in found[1::2]} == {False}
    workers = {row["detail"] for row in found if row["id"] != 350}
    assert str(os.getpid()) not in workers
    assert len(workers) >= 2


@pytest.mark.integration
def test_one_process_and_two_give_the_same_bytes(tmp_path: Path) -> None:
    rows = [{"gold": f"{n}/7", "pred": f"\\frac{{{n + n % 3}}}{{7}}", "expected": n % 3 == 0} for n in range(1, 600)]
    one, two = judge(tmp_path, *rows, workers=1), judge(tmp_path, *rows, workers=2)
    assert one == two
    assert [judged.passed for judged in one] == [n % 3 == 0 for n in range(1, 600)]


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.integration)])
def test_reading_stays_only_a_little_ahead(tmp_path: Path, workers: int) -> None:
    """Of an endless input the first verdicts come, so memory does not grow with the file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    line = json.dumps({"gold": "1", "pred": "1"}) + "\n"
    if not (child := os.fork()):
        try:
            with pipe.open("w") as file:
                while True:
                    file.write(line)
        finally:
            os._exit(0)
    verdicts = answer_pairs.verify(pipe, "exact", workers)
    start = time.monotonic()
    assert all(judged.passed for judged in itertools.islice(verdicts, 3000))
    verdicts.close()  # type: ignore[attr-defined]
    assert time.monotonic() - start < 60
    os.waitpid(child, 0)


def test_what_cannot_be_read_or_holds_nothing_is_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read"):
        list(answer_pairs.verify(tmp_path / "none.jsonl"))
    for text in ("", "\n \n"):
        (tmp_path / "empty.jsonl").write_text(text)
        with pytest.raises(InputError, match=r"empty\.jsonl: holds no rows"):
            list(answer_pairs.verify(tmp_path / "empty.jsonl"))
    with pytest.raises(InputError, match="unknown kind 'maths'"):
        verify(tmp_path, {"gold": "1", "pred": "1"}, kind="maths")
    with pytest.raises(InputError, match="endpoint: is required"):
        verify(tmp_path, {"gold": "1", "pred": "1"}, kind="judge")


def test_a_verifier_that_cannot_work_here_ends_the_run(tmp_path: Path) -> None:
    source = MINE.replace('raise RuntimeError("a bug")', 'raise RunError("no sandbox")')
    (tmp_path / "mine.py").write_text("from distill.errors import RunError\n" + source)
    for count in (1, 900):
        with pytest.raises(RunError, match="no sandbox"):
            verify(tmp_path, *[{"gold": "a", "pred": "crash"}] * count, kind=str(tmp_path / "mine.py"), workers=2)


def test_numbers_are_not_rounded_by_reading_them(tmp_path: Path) -> None:
    big = 123456789012345678901234567890
    found = verify(
        tmp_path,
        {"gold": big, "pred": str(big), "id": big},
        {"gold": big, "pred": str(big + 1)},
        {"gold": big, "pred": big, "id": "\ud800"},
    )
    assert [row["passed"] for row in found] == [True, False, True]
    assert (found[0]["id"], found[2]["id"]) == (big, "\ud800")


def test_the_summary_counts() -> None:
    summary = Summary()
    for line, (passed, reason, expected) in enumerate(
        [
            (True, "", True),
            (True, "", False),
            (False, "no_answer", False),
            (None, "bad_row", None),
            (None, "timeout", True),
        ],
        1,
    ):
        summary.add(JudgedPair(line, b"", passed, reason, expected))
    assert [summary.total, summary.count(True), summary.count(False), summary.count(None)] == [5, 2, 1, 2]
    assert summary.reasons[None] == {"bad_row": 1, "timeout": 1}
    assert (summary.labelled, summary.agreed, summary.disagreed) == (4, 2, [2, 5])


def test_every_kind_can_be_named_in_a_row(tmp_path: Path) -> None:
    """A row's kind is one of the package's, and each is known or needs settings that a row cannot give."""
    rows = [{"gold": None, "pred": "1", "kind": kind} for kind in plugins.names("verifiers")]
    assert all("has no `gold`" in row["detail"] for row in verify(tmp_path, *rows))


@pytest.mark.parametrize(
    ("name", "out", "kind", "message"),
    [
        ("none.jsonl", "v.jsonl", "math", r"none\.jsonl: no such file"),
        (".", "v.jsonl", "math", "no such file"),
        ("empty.jsonl", "v.jsonl", "math", r"empty\.jsonl: holds no rows"),
        ("pairs.jsonl", "v.jsonl", "maths", "did you mean math"),
        ("pairs.jsonl", "v.jsonl", "judge", "endpoint: is required"),
        ("pairs.jsonl", "pairs.jsonl", "math", "would replace the pairs themselves"),
    ],
)
def test_wrong_input_leaves_the_file_of_verdicts_as_it_was(
    tmp_path: Path, name: str, out: str, kind: str, message: str
) -> None:
    source = tmp_path / "pairs.jsonl"
    source.write_text('{"gold": "1", "pred": "1"}\n')
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "v.jsonl").write_text("old")
    with pytest.raises(InputError, match=message):
        answer_pairs.write_verdicts(tmp_path / name, tmp_path / out, kind, LogLines())
    assert (tmp_path / "v.jsonl").read_text() == "old"
    assert source.read_text() == '{"gold": "1", "pred": "1"}\n'
    assert len(list(tmp_path.iterdir())) == 3


def test_verdicts_go_to_a_new_folder_or_a_stream(tmp_path: Path) -> None:
    source = tmp_path / "pairs.jsonl"
    source.write_text('{"gold": "1", "pred": "1"}\nbroken\n')
    stream = io.BytesIO()
    out = tmp_path / "new" / "v.jsonl"
    for target in (out, stream):
        summary = answer_pairs.write_verdicts(source, target, "math", LogLines())
        assert (summary.total, summary.count(True), summary.reasons[None]["bad_row"]) == (2, 1, 1)
    assert out.read_bytes() == stream.getvalue()
    assert [json.loads(line)["passed"] for line in stream.getvalue().splitlines()] == [True, None]


@pytest.mark.integration
def test_the_answers_of_public_graders(tmp_path: Path) -> None:
    folder = Path(os.environ.get("DISTILL_SHARED_DATA", Path(__file__).parents[2] / "../shared/data"))
    if not (folder / "answer_pairs.jsonl").is_file():
        pytest.skip(f"no answer_pairs.jsonl in {folder} (set DISTILL_SHARED_DATA)")
    summary = Summary()
    for judged in answer_pairs.verify(folder / "answer_pairs.jsonl"):
        summary.add(judged)
    assert summary.total == summary.labelled == 125
    assert summary.agreed >= 0.95 * 125
    assert summary.reasons[None]["bad_row"] == 0
