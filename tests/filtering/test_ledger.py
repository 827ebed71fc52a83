"""What was said once is not asked again; what changed is."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from distill.filtering.earlier import is_usable
from distill.filtering.ledger import Ledger
from distill.run import Run
from distill.stages import filter
from distill.store import jsonl
from distill.types import Problem, Trace, Verdict
from tests.conftest import GOOD, make_trace
from tests.filtering.conftest import CHECKS, job

COUNTING = '''"""Counting: notes every trace that it looks at."""
from pathlib import Path
from distill.filters import Filter
from distill.types import Outcome, Record

class Config(Record):
    limit: int = 1000

class Counting(Filter):
    def __init__(self, limit):
        self.limit = limit

    def __call__(self, problem, trace):
        with Path(__file__).with_suffix(".log").open("a") as log:
            log.write(trace.id + "\\n")
        return Outcome(passed=len(trace.completion) < self.limit, reason="long")

def build(config, context):
    return Counting(config.limit)
'''


class Counter:
    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.plugin = folder / "counting.py"
        self.plugin.write_text(COUNTING)
        self._log = folder / "counting.log"

    def looked(self) -> int:
        """Traces that were looked at since the last call."""
        count = len(self._log.read_text().splitlines()) if self._log.exists() else 0
        self._log.unlink(missing_ok=True)
        return count


@pytest.fixture
def counter(tmp_path: Path) -> Counter:
    return Counter(tmp_path / "plugin")


def test_a_changed_threshold_asks_no_other_check_again(traces: Run, counter: Counter) -> None:
    checks = {**CHECKS, "counting": {"kind": str(counter.plugin)}}
    filter.STAGE.run(job(traces.folder, checks=checks))
    assert counter.looked() == 40
    before = traces.verdicts_file.read_bytes()
    changed = {**checks, "length": {"max_tokens": 60}}
    summary = filter.STAGE.run(job(traces.folder, checks=changed))
    assert counter.looked() == 0
    assert summary.checks[3].rejects > 0
    again = filter.STAGE.run(job(traces.folder, checks=checks))
    assert (counter.looked(), again.reused) == (0, 0), "length itself was asked again"
    assert traces.verdicts_file.read_bytes() == before
    assert filter.STAGE.run(job(traces.folder, checks=checks)).reused == 40


def test_its_own_settings_its_code_a_new_trace_and_a_new_gold_count(traces: Run, counter: Counter) -> None:
    def go(**settings: object) -> int:
        filter.STAGE.run(
            job(traces.folder, checks={"correct": {}, "counting": {"kind": str(counter.plugin), **settings}})
        )
        return counter.looked()

    assert go() == 40
    assert go(limit=500) == 40
    problems = list(jsonl.read(traces.problems, Problem))
    with jsonl.Log(traces.traces_file) as log:
        log.append(make_trace(GOOD, problem_id=problems[0].id, sample=99))
    assert go(limit=500) == 1
    problems[0] = problems[0].model_copy(update={"answer": {"target": 30, "numbers": [3, 7, 8]}})
    jsonl.write(traces.problems, problems)
    assert go(limit=500) == 9, "the traces of the problem whose gold was mended"


def test_a_changed_verifier_of_ones_own_judges_again(traces: Run, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("from distill.verifiers.countdown import Config, build\n")
    own = {"kind": str(mine)}
    problems = [problem.model_copy(update={"verifier": own}) for problem in jsonl.read(traces.problems, Problem)]
    jsonl.write(traces.problems, problems)

    def reused() -> int:
        return int(filter.STAGE.run(job(traces.folder, checks={"correct": {}})).reused)

    assert (reused(), reused()) == (0, 40)
    mine.write_text(mine.read_text() + "# changed\n")
    assert (reused(), reused()) == (0, 40)


def test_an_interrupted_run_is_gone_on_with(traces: Run, counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = {"correct": {}, "counting": {"kind": str(counter.plugin)}}
    monkeypatch.setattr(filter, "CHUNK", 3000)
    add = Ledger.add
    calls = 0

    def failing(self: Ledger, *args: object) -> int:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise KeyboardInterrupt
        return add(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Ledger, "add", failing)
    with pytest.raises(KeyboardInterrupt):
        filter.STAGE.run(job(traces.folder, checks=checks, processes=1))
    first = counter.looked()
    monkeypatch.setattr(Ledger, "add", add)
    filter.STAGE.run(job(traces.folder, checks=checks, processes=1))
    assert 0 < counter.looked() < 40
    assert first < 40
    assert not list(traces.folder.glob("*.partial")) + list(traces.folder.glob("*.interrupted"))


def test_a_broken_ledger_is_no_obstacle(traces: Run) -> None:
    filter.STAGE.run(job(traces.folder))
    before = traces.verdicts_file.read_bytes()
    traces.ledger.write_bytes(b"not a database" * 100)
    assert not is_usable(traces.ledger)
    filter.STAGE.run(job(traces.folder))
    assert traces.verdicts_file.read_bytes() == before


def test_preview_changes_nothing(traces: Run) -> None:
    filter.STAGE.run(job(traces.folder))
    before = {path: path.stat().st_mtime_ns for path in traces.folder.rglob("*")}
    told = filter.STAGE.preview(job(traces.folder, checks={**CHECKS, "length": {"max_tokens": 60}}))
    assert told.checks[3].rejects > 0
    assert {path: path.stat().st_mtime_ns for path in traces.folder.rglob("*")} == before


def test_traces_are_read_from_where_they_lie(traces: Run) -> None:
    filter.STAGE.run(job(traces.folder))
    stored = {trace.id: trace for trace in jsonl.read(traces.traces_file, Trace)}
    rows = sqlite3.connect(traces.ledger).execute("SELECT id, path, at FROM traces").fetchall()
    assert len(rows) == 40
    for id, path, at in rows:
        assert Trace.model_validate_json(jsonl.line_at(path, at)) == stored[id]
    assert {v.trace_id for v in jsonl.read(traces.verdicts_file, Verdict)} == set(stored)


@pytest.mark.slow
def test_the_last_row_of_a_trace_counts_and_keeps_its_number(traces: Run) -> None:
    before = filter.STAGE.run(job(traces.folder))
    stored = list(jsonl.read(traces.traces_file, Trace))
    cut = next(trace for trace in stored if trace.finish == "length")
    continued = cut.model_copy(update={"completion": GOOD, "finish": "stop", "answer_span": (0, len(GOOD))})
    with jsonl.Log(traces.traces_file, seal=1000) as log:
        at = log.append(continued)
    after = filter.STAGE.run(job(traces.folder))
    assert (after.traces, after.repeats) == (40, before.repeats + 1)
    rows = sqlite3.connect(traces.ledger).execute("SELECT number, id, at FROM traces ORDER BY number").fetchall()
    assert [row[1] for row in rows] == [trace.id for trace in stored]
    assert rows[stored.index(cut)][2] == at
    said = {v.check: v for v in jsonl.read(traces.verdicts_file, Verdict) if v.trace_id == cut.id}
    assert said["finish"].passed
