"""The filter stage: every check on every trace, decisions, the funnel and the set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from pydantic import ValidationError

from distill.errors import InputError, RunError
from distill.run import Run
from distill.stages import StageJob, filter
from distill.store import jsonl
from distill.types import Verdict
from tests.conftest import GOOD, make_job, make_problem, make_trace

WRONG = "Try 3 + 7 = 10.\n</think>\n\n<answer>3 + 7 + 8</answer>"
CUT = "Try 3 + 7 = 10."
BOTH = "Try.\n</think>\n\n<answer>3 + 7 + 8</answer> and more"


def job(folder: Path, **config: Any) -> StageJob[filter.Config]:
    config.setdefault("checks", {"correct": {}, "finish": {}, "format": {"answer": "tag"}})
    return make_job(folder, filter.Config.model_validate(config))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    other = make_problem("no gold here", answer=None)
    run = Run(tmp_path)
    jsonl.write(run.problems, [make_problem(), other])
    jsonl.write(
        run.traces_file,
        [
            make_trace(GOOD, sample=0),
            make_trace(WRONG, sample=1),
            make_trace(CUT, sample=2, finish="length"),
            make_trace(BOTH, sample=3),
            make_trace(GOOD, sample=4),
            make_trace(GOOD, sample=0, problem_id=other.id),
            make_trace(GOOD, problem_id="gone"),
        ],
    )
    return tmp_path


def verdicts(folder: Path) -> dict[str, list[Verdict]]:
    found: dict[str, list[Verdict]] = {}
    for verdict in jsonl.read(Run(folder).verdicts_file, Verdict):
        found.setdefault(verdict.check, []).append(verdict)
    return found


def test_every_check_judges_every_trace_and_each_gets_a_decision(folder: Path) -> None:
    summary = filter.STAGE.run(job(folder))
    found = verdicts(folder)
    assert {check: len(rows) for check, rows in found.items()} == dict.fromkeys(
        ("correct", "finish", "format", "decision"), 6
    )
    assert [row.passed for row in found["correct"]] == [True, False, False, False, True, None]
    decisions = found["decision"]
    assert [row.passed for row in decisions] == [True, False, False, False, True, None]
    assert decisions[1].reason == "correct:wrong_numbers" or decisions[1].reason == "correct:wrong_value"
    assert decisions[3].detail.split() == ["correct:wrong_value", "format:text_after_answer"]
    assert summary.orphans == 1
    assert summary.undecidable == 1
    assert summary.kept == 2
    by_check = {row.check: row for row in summary.checks}
    assert by_check["correct"].rejects == 3
    assert by_check["correct"].only == 1
    assert by_check["finish"].reasons == {"cut": 1}
    assert json.loads(Run(folder).funnel.read_text()) == summary.model_dump(mode="json")


def test_the_set_has_messages_provenance_and_tokens(folder: Path) -> None:
    filter.STAGE.run(job(folder))
    rows = datasets.load_dataset("parquet", data_files=str(folder / "sft" / "train.parquet"), split="train")
    assert len(rows) == 2
    row = rows[0]
    assert [m["role"] for m in row["messages"]] == ["user", "assistant"]
    assert row["messages"][1]["content"] == "<think>\n" + GOOD
    assert row["problem_id"] == make_problem().id
    assert row["tokens"] > 10
    assert {r["trace_id"] for r in rows} == {v.trace_id for v in verdicts(folder)["decision"] if v.passed}


def test_per_problem_keeps_the_lowest_samples(folder: Path) -> None:
    assert filter.STAGE.run(job(folder, select={"per_problem": 1})).kept == 1
    decisions = verdicts(folder)["decision"]
    assert decisions[0].passed
    assert decisions[4].reason == "not_selected"


def test_unfiltered_draws_as_many_from_all(folder: Path) -> None:
    kept = set()
    for seed in range(6):
        assert filter.STAGE.run(job(folder, unfiltered=True, seed=seed)).kept == 2
        kept |= {v.trace_id for v in verdicts(folder)["decision"] if v.passed}
    assert len(kept) > 2


def test_a_check_that_is_switched_off_says_nothing(folder: Path) -> None:
    summary = filter.STAGE.run(job(folder, checks={"correct": {}, "format": False}))
    assert set(verdicts(folder)) == {"correct", "decision"}
    assert [row.check for row in summary.checks] == ["correct"]


def test_other_runs_are_read_and_never_written(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    mine = tmp_path_factory.mktemp("mine")
    before = sorted((p, p.stat().st_mtime_ns) for p in folder.iterdir())
    assert filter.STAGE.run(job(mine, traces=[str(folder), str(folder)])).traces == 6
    assert sorted((p, p.stat().st_mtime_ns) for p in folder.iterdir()) == before


def test_nothing_to_filter_and_nothing_left_are_clear(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(InputError, match=r"no traces to filter[\s\S]*distill generate"):
        filter.STAGE.run(job(tmp_path_factory.mktemp("empty")))
    with pytest.raises(RunError, match=r"no trace of 6 was accepted; most often: length:too_long"):
        filter.STAGE.run(job(folder, checks={"length": {"max_tokens": 1}}))
    assert len(verdicts(folder)["decision"]) == 6, "the reasons are there to read"


def test_a_wrong_setting_names_its_check(folder: Path) -> None:
    with pytest.raises(ValidationError, match=r"checks\.length\.max_tokns"):
        filter.STAGE.run(job(folder, checks={"length": {"max_tokns": 1}}))


def test_general_data_is_mixed_in_by_share(folder: Path) -> None:
    general = folder / "general.jsonl"
    rows = [{"q": f"Say hello {n} times.", "a": "Hello! " * n} for n in range(1, 30)]
    general.write_text("\n".join(json.dumps(row) for row in rows))
    source = {"path": str(general), "map": {"prompt": "{q}", "text": "a", "licence": "mit"}, "share": 0.6}
    summary = filter.STAGE.run(job(folder, mix={"chat": source}))
    assert summary.kept == 2
    assert [(drawn.rows, drawn.reached, drawn.short) for drawn in summary.mix] == [(3, 0.6, False)]
    read = datasets.load_dataset("parquet", data_files=str(folder / "sft" / "train.parquet"), split="train")
    mixed = [row for row in read if row["set"] == "chat"]
    assert (len(read), len(mixed)) == (5, 3)
    assert all(row["licence"] == "mit" for row in mixed)
    assert all(row["messages"][-1]["content"].startswith("<think>\n\n</think>\n\nHello!") for row in mixed)
