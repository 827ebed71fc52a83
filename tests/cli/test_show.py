"""`distill show`: of a trace that was continued, the last row counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from distill.cli.traces import show

from distill.run import Run
from distill.store import jsonl
from distill.types import Usage, Verdict
from tests.conftest import GOOD, make_problem, make_trace


def test_a_continued_trace_is_shown_once_as_it_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, problem = Run(tmp_path), make_problem()
    jsonl.write(run.problems, [problem])
    cut = make_trace("Try 3 * 7", id="aa11", finish="length")
    ended = make_trace(GOOD, id="aa11").model_copy(update={"usage": Usage(prompt=10, reasoning=700, answer=77)})
    with jsonl.Log(run.traces_file, seal=100) as log:
        for trace in (cut, make_trace(GOOD, id="bb22", sample=1), ended):
            log.append(trace)
    show(tmp_path, "aa")
    shown = capsys.readouterr().out
    assert "stop; tokens: 10 prompt, 700 reasoning, 77 answer" in shown
    assert "length" not in shown
    show(tmp_path, problem.id)
    rows = [line for line in capsys.readouterr().out.splitlines() if "aa11" in line or "bb22" in line]
    assert len(rows) == 2
    assert "777" in rows[0]


def test_an_imported_trace_has_no_token_counts_and_a_reason_stands_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path)
    jsonl.write(run.problems, [make_problem()])
    trace = make_trace(GOOD, id="cc33").model_copy(update={"usage": Usage(prompt=0, reasoning=0, answer=0)})
    jsonl.write(run.traces_file, [trace])
    why = "language:foreign_script"
    verdict = Verdict(trace_id="cc33", check="decision", passed=False, reason=why, detail=why)
    jsonl.write(run.verdicts_file, [verdict])
    show(tmp_path, "cc33")
    shown = capsys.readouterr().out
    assert "stop; tokens: not counted" in shown
    assert shown.count(why) == 1
