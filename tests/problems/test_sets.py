"""Problem sets: good rows become problems, bad ones are kept with their line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill.errors import InputError
from distill.problems import sets
from distill.problems.sets import RejectedProblem


def write(path: Path, *rows: object) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def test_countdown_splits_share_no_multiset_and_all_are_solvable_sizes() -> None:
    train, test = (list(sets.load("countdown-tiny:" + split, split)) for split in ("train", "test"))
    assert len(train) + len(test) >= 10_000
    seen = {tuple(sorted(p.answer["numbers"])) for p in train}
    assert not seen & {tuple(sorted(p.answer["numbers"])) for p in test}
    assert len({p.id for p in train + test}) == len(train) + len(test)
    first = train[0]
    text = first.messages[0].content
    assert f"make {first.answer['target']}." in text
    assert ", ".join(map(str, first.answer["numbers"])) in text


def test_own_jsonl_with_broken_rows(tmp_path: Path) -> None:
    ref = write(
        tmp_path / "mine.jsonl",
        {"problem": "1+1?", "answer": "2"},
        "{broken",
        {"question": "no problem field"},
        {"problem": "1+1?", "answer": "2"},
        {"problem": "  ", "answer": "2"},
        {"messages": [{"role": "robot", "content": "x"}], "answer": "2"},
        "",
        {"messages": [{"role": "user", "content": "2+2?"}], "answer": "4", "verifier": {"kind": "exact"}, "set": "s"},
    )
    bad: list[RejectedProblem] = []
    found = list(sets.load(ref, "train", None, bad.append))
    assert [p.answer for p in found] == ["2", "4"]
    assert found[1].verifier == {"kind": "exact"}
    assert found[1].set == "s"
    assert [(r.line, r.reason.split(":")[0]) for r in bad] == [
        (2, "is not a JSON object"),
        (3, "lacks the field 'problem'"),
        (4, "repeats line 1"),
        (5, "is empty"),
        (6, "role"),
    ]
    with pytest.raises(InputError, match="line 2: is not a JSON object"):
        list(sets.load(ref, "train"))


def test_ids_are_content_and_survive_reordering(tmp_path: Path) -> None:
    rows = [{"problem": f"{i}?", "answer": str(i)} for i in range(5)]
    forward = {p.id: p.answer for p in sets.load(write(tmp_path / "a.jsonl", *rows), "train")}
    backward = {p.id: p.answer for p in sets.load(write(tmp_path / "b.jsonl", *rows[::-1]), "train")}
    assert forward == backward
    corrected = write(tmp_path / "c.jsonl", {"problem": "0?", "answer": "zero"})
    assert next(sets.load(corrected, "train")).id in forward


def test_the_gold_after_a_mark(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", {"q": "a", "solution": "so\n#### 42"}, {"q": "b", "solution": "no mark"})
    path = tmp_path / "gsm.yaml"
    path.write_text(
        "name: gsm\nsource: jsonl\nsplits: {train: rows.jsonl}\nprompt: '{q}'\nanswer: solution\nanswer_after: '####'\n"
    )
    bad: list[RejectedProblem] = []
    assert [p.answer for p in sets.load(str(path), "train", None, bad.append)] == ["42"]
    assert "lacks the mark" in bad[0].reason


def test_unknown_sets_and_splits_are_named() -> None:
    with pytest.raises(InputError, match=r"did you mean countdown-tiny"):
        sets.find("countdown-tinny")
    with pytest.raises(InputError, match=r"no split 'tset'[\s\S]*did you mean test"):
        sets.find("countdown-tiny:tset")
    with pytest.raises(InputError, match="no such problem file"):
        sets.find("nowhere.jsonl")


def test_limit_takes_the_first() -> None:
    three = list(sets.load("countdown-tiny", "train", 3))
    assert three == list(sets.load("countdown-tiny", "train", 5))[:3]


@pytest.mark.slow
def test_reasoning_gym_tasks(tmp_path: Path) -> None:
    pytest.importorskip("reasoning_gym")
    path = tmp_path / "gym.yaml"
    path.write_text(
        "name: gym\nsource: reasoning_gym\ndataset: basic_arithmetic\noptions: {size: 3, seed: 1}\n"
        "prompt: '{question}'\nverifier: {kind: exact}\n"
    )
    found = list(sets.load(str(path), "train"))
    assert len(found) == 3
    assert all(p.answer for p in found)
