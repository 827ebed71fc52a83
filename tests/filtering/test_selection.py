"""Which accepted traces are chosen."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pytest

from distill.filtering import training
from distill.filtering.funnel import GroupCounts
from distill.run import Run
from distill.stages import filter
from distill.store import jsonl
from distill.types import Problem, Trace, TrainingRow, content_id
from tests.conftest import GOOD, make_problem, make_trace
from tests.filtering.conftest import job


def chosen(run: Run, **config: Any) -> list[Trace]:
    config.setdefault("checks", {"correct": {}})
    filter.STAGE.run(job(run.folder, **config))
    rows = datasets.load_dataset("parquet", data_files=str(run.sft / "train.parquet"), split="train")
    stored = {trace.id: trace for trace in jsonl.read(run.traces_file, Trace)}
    return [stored[row["trace_id"]] for row in rows]


@pytest.fixture
def lengths(tmp_path: Path) -> Run:
    """One problem, five right traces, the later the shorter; the first two alike but for one word."""
    run = Run(tmp_path)
    jsonl.write(run.problems, [make_problem()])
    bodies = [
        "a b c d e f g h i j " * 9,
        "a b c d e f g h i j " * 8 + "k",
        "l m n o p q " * 9,
        "r s t u " * 8,
        "v w " * 8,
    ]
    jsonl.write(run.traces_file, [make_trace(body + GOOD, sample=n) for n, body in enumerate(bodies)])
    return run


def test_first_shortest_and_diverse(lengths: Run) -> None:
    def samples(pick: str, count: int) -> list[int]:
        return sorted(trace.sample for trace in chosen(lengths, select={"per_problem": count, "pick": pick}))

    assert samples("first", 2) == [0, 1]
    assert samples("shortest", 2) == [3, 4]
    diverse = samples("diverse", 4)
    assert len({0, 1} & set(diverse)) == 1, "of two that are alike one is enough"
    assert samples("random", 2) == samples("random", 2)


def test_difficulty_leans_to_hard_problems(tmp_path: Path) -> None:
    run = Run(tmp_path)
    easy, hard = make_problem("easy: make 29."), make_problem("hard: make 29.")
    jsonl.write(run.problems, [easy, hard])
    wrong = GOOD.replace("(3 * 7) + 8", "3 + 7 + 8")
    traces = [
        make_trace(f"{sample} {body}", id=content_id(problem.id, sample), problem_id=problem.id, sample=sample)
        for problem, share in ((easy, 90), (hard, 30))
        for sample, body in enumerate([GOOD] * share + [wrong] * (100 - share))
    ]
    jsonl.write(run.traces_file, traces)
    plain = Counter(trace.problem_id for trace in chosen(run, select={"rows": 30}))
    leaning = Counter(trace.problem_id for trace in chosen(run, select={"rows": 30, "difficulty": 1.0}))
    assert plain.total() == leaning.total() == 30
    assert plain[easy.id] > plain[hard.id], "there are three times as many easy ones"
    assert leaning[hard.id] > leaning[easy.id], "a hard one weighs seven times as much"


def test_the_set_is_in_an_order_of_its_content(lengths: Run) -> None:
    first = [trace.id for trace in chosen(lengths)]
    stored = list(jsonl.read(lengths.traces_file, Trace))
    jsonl.write(lengths.traces_file, reversed(stored))
    assert [trace.id for trace in chosen(lengths)] == first
    assert [trace.id for trace in chosen(lengths, seed=1)] != first


def test_a_large_set_is_sorted_in_buckets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        (content_id(n).encode()[:12], TrainingRow(
            messages=({"role": "user", "content": str(n)},), trace_id=str(n), problem_id="p", set="s", language="en",
            licence=None, source=None, tokens=n,
        ))
        for n in range(300)
    ]  # fmt: skip
    training.write(tmp_path / "one.parquet", rows, 1)
    monkeypatch.setattr(training, "_BUCKET_BYTES", 100)
    training.write(tmp_path / "many.parquet", reversed(rows), 3000)
    read = [
        datasets.load_dataset("parquet", data_files=str(tmp_path / name), split="train")["trace_id"]
        for name in ("one.parquet", "many.parquet")
    ]
    assert list(read[0]) == list(read[1]) == [row.trace_id for _, row in sorted(rows, key=lambda row: row[0])]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_retention_by_set_and_length_and_examples(tmp_path: Path) -> None:
    run = Run(tmp_path)
    problems = [make_problem("one"), make_problem("two").model_copy(update={"set": "other"})]
    jsonl.write(run.problems, problems)
    bodies = [GOOD, "x " * 600 + GOOD, GOOD.replace("+ 8", "- 8")]
    jsonl.write(run.traces_file, [make_trace(f"{p.id} {b}", problem_id=p.id) for p in problems for b in bodies])
    summary = filter.STAGE.run(job(tmp_path, checks={"correct": {}}, examples=1))
    half = GroupCounts(traces=3, kept=2, rejects={"correct": 1})
    assert summary.by_set == {"test": half, "other": half}
    assert summary.by_length == {
        "≤ 1,000": GroupCounts(traces=4, kept=2, rejects={"correct": 2}),
        "≤ 2,000": GroupCounts(traces=2, kept=2, rejects={}),
    }
    assert {reason: len(ids) for reason, ids in summary.examples.items()} == {"kept": 1, "correct:wrong_value": 1}
    assert next(jsonl.read(run.problems, Problem)).id == problems[0].id
