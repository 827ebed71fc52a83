"""Which traces a page shows: all of them, or a stratified sample where there are more than it may hold.

The traces of all runs, what was decided of each and where its rows lie are noted in a temporary SQLite file, so that a
million traces need no memory.
"""

from __future__ import annotations

import sqlite3
import tempfile
from bisect import insort
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from distill.errors import InputError
from distill.progress import Progress
from distill.reporting.browser.group_sizes import sample_sizes
from distill.run import Run
from distill.store import jsonl
from distill.store.jsonl import Chunk

EXAMPLES_PER_REASON = 5
"""Traces of each reason that are taken first, for a reason may never be the first one of a trace."""
_MAX_REASONS = 1000
"""Names of reasons that are told apart in a run; a filter of one's own might give every trace another."""
_OTHER_REASONS = "other reasons"
_DECISIONS = {True: "kept", False: "rejected", None: "undecidable"}
_BLOCK_BYTES = 1 << 22
_SCHEMA = """
PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-16000; PRAGMA temp_store=FILE;
CREATE TABLE problems(source INTEGER, id TEXT, family TEXT, at INTEGER, PRIMARY KEY(source, id)) WITHOUT ROWID;
CREATE TABLE traces(
    run INTEGER, id TEXT, source INTEGER, at INTEGER, problem TEXT, family TEXT,
    decision TEXT DEFAULT 'unjudged', reason TEXT DEFAULT '', correct INTEGER, start INTEGER, end INTEGER,
    chosen INTEGER DEFAULT 0, PRIMARY KEY(run, id)) WITHOUT ROWID;
"""
_GROUP_COLUMNS = "run, decision, reason, family, correct"


class Excerpt(NamedTuple):
    """A chosen trace: what was decided of it, and where its rows lie."""

    run: int
    """Number of its run among those given."""
    id: str
    decision: str
    """kept, rejected, undecidable or unjudged."""
    reason: str
    """The first reason for the decision; empty for a kept trace."""
    correct: bool | None
    """The check `correct` on the trace, or the grade of the sampling."""
    trace_location: tuple[Path, int]
    """The log with the trace, and its offset in bytes."""
    problem_location: tuple[Path, int] | None
    """The log with the problem, and its offset in bytes."""
    verdicts: Chunk | None
    """The part of the log that holds the trace's verdicts."""


class Group(NamedTuple):
    """Traces that are alike in what they are drawn by."""

    run: int
    decision: str
    reason: str
    family: str
    """The problems' set."""
    correct: bool | None
    size: int
    drawn: int


@dataclass
class Catalogue:
    """Every trace of some runs. `read` fills it, `choose` draws, and iterating gives what was drawn in log order."""

    runs: Sequence[Run]
    trace_count: int = 0
    reason_counts: list[Counter[str]] = field(default_factory=list)
    """How often each reason was given in a run, `check:reason`."""
    missing_folders: list[Path] = field(default_factory=list)
    """Folders whose traces a run's filter read, and which are not here."""

    def __post_init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="distill-report-")
        self._db = sqlite3.connect(Path(self._folder.name) / "traces.sqlite")
        self._db.executescript(_SCHEMA)
        self._sources: list[Run] = []
        self._examples: dict[tuple[int, str], list[str]] = {}

    def close(self) -> None:
        self._db.close()
        self._folder.cleanup()

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, progress: Progress) -> None:
        """Note all traces and verdicts; each log is read once.

        Raises:
            InputError: a log cannot be read.
        """
        for run_number, run in enumerate(self.runs):
            source_numbers = [self._source_number(source_run) for source_run in _source_runs(run)]
            self._record_traces(run_number, [number for number in source_numbers if number is not None], progress)
            self.reason_counts.append(Counter())
            if jsonl.exists(run.grades):  # what sampling went by; the filter's verdict counts more
                self._record_grades(run_number, run.grades)
            if jsonl.exists(run.verdicts_file):
                self._record_verdicts(run_number, run.verdicts_file, progress)
        self._db.commit()
        self.trace_count = self._db.execute("SELECT count(*) FROM traces").fetchone()[0]

    def _source_number(self, run: Run) -> int | None:
        """The number of a folder that traces are read from, whose problems are noted when it is first met."""
        for number, known_run in enumerate(self._sources):
            if known_run.folder.resolve() == run.folder.resolve():
                return number
        if not jsonl.exists(run.traces_file):
            self.missing_folders.append(run.folder)
            return None
        number = len(self._sources)
        self._sources.append(run)
        if jsonl.exists(run.problems):
            rows = (
                (number, row["id"], row.get("set", ""), offset) for offset, _, row in _read_rows(run.problems, "id")
            )
            self._db.executemany("INSERT OR REPLACE INTO problems VALUES(?,?,?,?)", rows)
        return number

    def _record_traces(self, run_number: int, source_numbers: Sequence[int], progress: Progress) -> None:
        family_query = "coalesce((SELECT family FROM problems WHERE source=? AND id=?), '')"
        insert = f"INSERT OR REPLACE INTO traces(run, id, source, at, problem, family) VALUES(?,?,?,?,?,{family_query})"
        for source_number in source_numbers:
            log = self._sources[source_number].traces_file
            progress.start(f"traces of {self._sources[source_number].folder.name}", jsonl.size(log) >> 20, unit="MB")
            reported_mb = 0
            for head in jsonl.heads(log):
                values = (
                    run_number,
                    head.id,
                    source_number,
                    head.offset,
                    head.problem_id,
                    source_number,
                    head.problem_id,
                )
                self._db.execute(insert, values)  # of an id the last row counts
                if (head.offset >> 20) > reported_mb:
                    progress.advance((head.offset >> 20) - reported_mb)
                    reported_mb = head.offset >> 20
            progress.stop()

    def _record_grades(self, run_number: int, grade_log: Path) -> None:
        grades = ((row.get("passed"), run_number, row["trace_id"]) for _, _, row in _read_rows(grade_log, "trace_id"))
        self._db.executemany("UPDATE traces SET correct=? WHERE run=? AND id=?", grades)

    def _record_verdicts(self, run_number: int, verdict_log: Path, progress: Progress) -> None:
        progress.start(
            f"verdicts of {self.runs[run_number].folder.name}", max(1, jsonl.size(verdict_log) >> 20), unit="MB"
        )
        assignments = "decision=?, reason=?, correct=coalesce(?, correct), start=?, end=?"
        update = f"UPDATE traces SET {assignments} WHERE run=? AND id=?"  # noqa: S608
        reported_mb = 0
        for start, end, rows in _verdicts_by_trace(verdict_log):
            verdict_by_check = {row["check"]: row for row in rows}
            decision_row = verdict_by_check.pop("decision", {})
            trace_id = rows[0]["trace_id"]
            decision = "unjudged"
            if decision_row:
                decision = _DECISIONS[decision_row["passed"]]
            reason_names = self._reason_names(run_number, list(reasons_against(rows)))
            for name in reason_names:
                self._count_reason(run_number, name, trace_id)
            group_reason = decision_row.get("reason", "")
            if group_reason and group_reason not in reason_names:
                group_reason = _OTHER_REASONS
            is_correct = verdict_by_check.get("correct", {}).get("passed")
            self._db.execute(update, (decision, group_reason, is_correct, start, end, run_number, trace_id))
            if (end >> 20) > reported_mb:
                progress.advance((end >> 20) - reported_mb)
                reported_mb = end >> 20
        progress.stop()

    def _reason_names(self, run_number: int, reason_names: list[str]) -> list[str]:
        """The reasons, with those that are too many to be told apart under one name."""
        counts = self.reason_counts[run_number]
        return [name if name in counts or len(counts) < _MAX_REASONS else _OTHER_REASONS for name in reason_names]

    def _count_reason(self, run_number: int, reason: str, id: str) -> None:
        """Count a reason, and keep the smallest ids as examples of it."""
        self.reason_counts[run_number][reason] += 1
        examples = self._examples.setdefault((run_number, reason), [])
        if len(examples) < EXAMPLES_PER_REASON or id < examples[-1]:
            insort(examples, id)
            del examples[EXAMPLES_PER_REASON:]

    def choose(self, max_traces: int) -> list[Group]:
        """Draw at most so many traces: all, or examples of every reason and a share of every group.

        Within a group those with the smallest ids are taken: ids are hashes, so that is a draw, and the same each time.
        """
        if self.trace_count <= max_traces:
            self._db.execute("UPDATE traces SET chosen=1")
            return self._read_groups()
        examples_per_reason = min(EXAMPLES_PER_REASON, max(1, max_traces // (2 * max(1, len(self._examples)))))
        examples = [(run, id) for (run, _), ids in sorted(self._examples.items()) for id in ids[:examples_per_reason]]
        self._mark_chosen(list(dict.fromkeys(examples))[:max_traces])
        self._db.execute(f"CREATE INDEX by_group ON traces({_GROUP_COLUMNS}, chosen, id)")
        groups = self._read_groups()
        remaining_sizes = [group.size - group.drawn for group in groups]
        group_shares = sample_sizes(remaining_sizes, max_traces - sum(group.drawn for group in groups))
        same_group = " AND ".join(f"{name.strip()} IS ?" for name in _GROUP_COLUMNS.split(","))
        draw_query = f"SELECT run, id FROM traces WHERE {same_group} AND chosen=0 ORDER BY id LIMIT ?"  # noqa: S608
        for group, count in zip(groups, group_shares, strict=True):
            self._mark_chosen(self._db.execute(draw_query, (*group[:5], count)).fetchall())
        return self._read_groups()

    def _mark_chosen(self, chosen: Sequence[tuple[int, str]]) -> None:
        self._db.executemany("UPDATE traces SET chosen=1 WHERE run=? AND id=?", chosen)

    def _read_groups(self) -> list[Group]:
        columns = _GROUP_COLUMNS
        query = f"SELECT {columns}, count(*), sum(chosen) FROM traces GROUP BY {columns} ORDER BY {columns}"  # noqa: S608
        return [
            Group(run, decision, reason, family, _optional_bool(correct), size, drawn)
            for run, decision, reason, family, correct, size, drawn in self._db.execute(query)
        ]

    def __iter__(self) -> Iterator[Excerpt]:
        query = (
            "SELECT run, traces.id, decision, reason, correct, traces.source, traces.at, problems.at, start, end "
            "FROM traces LEFT JOIN problems ON problems.source = traces.source AND problems.id = traces.problem "
            "WHERE chosen=1 ORDER BY run, traces.source, traces.at"
        )
        for row in self._db.execute(query):
            run, id, decision, reason, correct, source, trace_offset, problem_offset, start, end = row
            source_run = self._sources[source]
            verdicts = None
            if start is not None:
                verdicts = Chunk(str(self.runs[run].verdicts_file), start, end)
            yield Excerpt(
                run=run,
                id=id,
                decision=decision,
                reason=reason,
                correct=_optional_bool(correct),
                trace_location=(source_run.traces_file, trace_offset),
                problem_location=None if problem_offset is None else (source_run.problems, problem_offset),
                verdicts=verdicts,
            )


def _optional_bool(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def reasons_against(verdict_rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Why a trace was not simply kept: `check:reason` of each check that did not pass it, and what selection says."""
    for row in verdict_rows:
        if row["check"] != "decision" and row["passed"] is not True:
            yield f"{row['check']}:{row['reason']}"
        elif row["check"] == "decision" and row["passed"] is False and ":" not in row["reason"]:
            yield row["reason"]  # not_selected: it was accepted and not drawn


def _source_runs(run: Run) -> list[Run]:
    """The run itself, or those whose traces its filter was told to read."""
    folders = run.state().get("recipe", {}).get("filter", {}).get("traces") or []
    return [Run(Path(folder)) for folder in folders] or [run]


def _verdicts_by_trace(path: Path) -> Iterator[tuple[int, int, list[dict[str, Any]]]]:
    """(start, end, rows) of verdicts that stand together because they are of one trace; offsets are bytes."""
    rows: list[dict[str, Any]] = []
    first_offset = 0
    last_offset = 0
    for start, end, row in _read_rows(path, "trace_id", "check", "passed", "reason"):
        if rows and rows[0]["trace_id"] != row["trace_id"]:
            yield first_offset, last_offset, rows
            rows = []
        if not rows:
            first_offset = start
        rows.append(row)
        last_offset = end
    if rows:
        yield first_offset, last_offset, rows


def _read_rows(path: Path, *fields: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(start, end, row) of each line of a log; offsets are bytes.

    Raises:
        InputError: a line is no JSON object, or lacks a field.
    """
    for chunk in jsonl.chunks(path, _BLOCK_BYTES):
        for offset, line in jsonl.lines(chunk):
            try:
                row = orjson.loads(line)
                for name in fields:
                    row[name]
            except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                raise InputError(
                    f"the line at byte {offset} is no row of this log", where=str(path), fix="mend or remove that line"
                ) from error
            yield offset, offset + len(line), row
