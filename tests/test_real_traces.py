"""Import and per-trace filters against the labels of real traces; the labels themselves are read only here.

Rows are counted from 1. Where a label is wrong, the row is named with the reason.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from distill.filters import ChosenFilter, Context
from distill.progress import LogLines
from distill.run import Run
from distill.sources import field_maps, imported
from distill.store import jsonl
from distill.types import Outcome, Problem, Trace

pytestmark = pytest.mark.slow

KINDS = ("correct", "finish", "format", "language", "repetition")
# labelled complete, yet 233 ends within a word ("leading to ar") and 456 within the loop that it is labelled with
CUT_AFTER_ALL = {233, 456}
# labelled truncated_thinking only for want of </think>: 417 never opened a block and ends with its box, 450 closes it
# with \end{think} and answers. A trace of a thinking model without a closed block is useless either way.
UNCLOSED = {417, 450}
# not labelled as loops, yet they are: 419 repeats one sum to the end, 448 and 451 count upwards, 453 lists triples
LOOPS_AFTER_ALL = {419, 448, 451, 453}

Judged = list[tuple[dict[str, Any], dict[str, Outcome]]]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """(labelled row, outcome of each filter) in the order of the file."""
    folder = Path(os.environ.get("DISTILL_SHARED_DATA", Path(__file__).parents[1] / "../shared/data"))
    source = folder / "real_traces.jsonl"
    if not source.is_file():
        pytest.skip(f"no real_traces.jsonl in {folder} (set DISTILL_SHARED_DATA)")
    run = Run(tmp_path_factory.mktemp("run"))
    summary = imported.run(str(source), field_maps.find("real-traces"), run, None, LogLines())
    assert (summary["rows"], summary["traces"], summary["problems"], summary["rejected"]) == (463, 463, 333, 0)
    problems = {problem.id: problem for problem in jsonl.read(run.problems, Problem)}
    context = Context(student="none is needed")
    filters = {kind: ChosenFilter.of({"kind": kind}).build(context) for kind in KINDS}
    outcomes = {
        trace.source_id: {kind: check(problems[trace.problem_id], trace) for kind, check in filters.items()}
        for trace in jsonl.read(run.traces_file, Trace)
    }
    return [(row, outcomes[row["id"]]) for _, row in jsonl.rows(source)]


def rejected(judged: Judged, kind: str) -> set[int]:
    return {number for number, (_, outcomes) in enumerate(judged, 1) if outcomes[kind].passed is False}


def flagged(judged: Judged, flag: str) -> set[int]:
    return {number for number, (row, _) in enumerate(judged, 1) if flag in row["flags"]}


def test_verdicts_agree_with_the_truth(judged: Judged) -> None:
    firm = [(row, outcomes) for row, outcomes in judged if row["truth"] in ("correct", "incorrect")]
    wrong = [row["id"] for row, o in firm if o["correct"].passed is not (row["truth"] == "correct")]
    assert len(firm) == 397
    assert len(wrong) / len(firm) <= 0.03, wrong
    assert not [row["id"] for row, o in firm if row["truth"] == "incorrect" and o["correct"].passed], "false positives"


def test_a_problem_without_an_answer_is_undecidable(judged: Judged) -> None:
    assert all(o["correct"].passed is None for row, o in judged if row["reference"] is None)


def test_language_drift_is_rejected_and_quotations_are_not(judged: Judged) -> None:
    drift, quoted, out = flagged(judged, "language_drift"), flagged(judged, "cjk_quoted"), rejected(judged, "language")
    assert (len(drift), len(quoted)) == (16, 9)
    assert drift <= out
    assert not quoted & out


def test_loops_are_found(judged: Judged) -> None:
    loops, out = flagged(judged, "loop"), rejected(judged, "repetition")
    assert len(loops) == 21
    assert loops <= out
    assert out - loops <= LOOPS_AFTER_ALL


@pytest.mark.parametrize("kind", ["language", "repetition"])
def test_no_clean_correct_trace_is_rejected(kind: str, judged: Judged) -> None:
    clean = {n for n, (row, _) in enumerate(judged, 1) if row["truth"] == "correct" and not row["flags"]}
    assert len(clean) == 238
    assert not clean & rejected(judged, kind)


def test_every_cut_trace_is_named_so_and_no_other(judged: Judged) -> None:
    cut = {number for number, (row, _) in enumerate(judged, 1) if row["status"] == "truncated_thinking"}
    assert len(cut) == 24
    assert cut >= UNCLOSED
    assert rejected(judged, "finish") == cut | CUT_AFTER_ALL


def test_complete_traces_with_a_closed_answer_have_the_format(judged: Judged) -> None:
    """Of the right ones with a marked answer, only those whose </answer> a stop string took away fail."""
    marked = [(row, o["format"]) for row, o in judged if row["truth"] == "correct" and "no_boxed" not in row["flags"]]
    assert {outcome.reason for _, outcome in marked} <= {"", "answer_not_closed"}
    assert all("<answer>" in row["text"] for row, outcome in marked if outcome.passed is False)


def test_none_of_the_labels_reaches_the_run(judged: Judged, tmp_path: Path) -> None:
    rows = [
        {"id": row["id"], "problem": row["problem"], "reference": row["reference"], "text": row["text"]}
        for row, _ in judged[:40]
    ]
    labelled = [row | {"truth": "incorrect", "status": "truncated", "flags": ["loop"]} for row in rows]
    contents = []
    for name, content in (("plain", rows), ("labelled", labelled)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
        run = Run(folder / "run")
        imported.run(str(folder / "x.jsonl"), field_maps.find("real-traces"), run, None, LogLines())
        contents.append(run.problems.read_bytes() + run.traces_file.read_bytes())
    assert contents[0] == contents[1]
