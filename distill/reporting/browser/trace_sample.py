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
from distill.run import Run
from distill.store import jsonl
from distill.store.jsonl import Chunk

FLOOR = 20
"""So many traces of each group are taken, or all of a smaller one, while that is at most half of the sample."""
EXAMPLES = 5
"""So many traces of each reason are taken first, for a reason may never be the first one of a trace."""
_REASONS = 1000
"""Names of reasons that are told apart in a run; a filter of one's own might give every trace another."""
_OTHER = "other reasons"
_DECISIONS = {True: "kept", False: "rejected", None: "undecidable"}
_BLOCK = 1 << 22
_SCHEMA = """
PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-16000; PRAGMA temp_store=FILE;
CREATE TABLE problems(source INTEGER, id TEXT, family TEXT, at INTEGER, PRIMARY KEY(source, id)) WITHOUT ROWID;
CREATE TABLE traces(
    run INTEGER, id TEXT, source INTEGER, at INTEGER, problem TEXT, family TEXT,
    decision TEXT DEFAULT 'unjudged', reason TEXT DEFAULT '', correct INTEGER, start INTEGER, end INTEGER,
    chosen INTEGER DEFAULT 0, PRIMARY KEY(run, id)) WITHOUT ROWID;
"""
_GROUP = "run, decision, reason, family, correct"


class Excerpt(NamedTuple):
    """A chosen trace."""

    run: int
    """Number of its run among those given."""
    id: str
    decision: str
    """kept, rejected, undecidable or unjudged."""
    reason: str
    """The first reason for that; empty for a kept one."""
    correct: bool | None
    trace: tuple[Path, int]
    """The log and the place in it."""
    problem: tuple[Path, int] | None
    verdicts: Chunk | None


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
    total: int = 0
    reasons: list[Counter[str]] = field(default_factory=list)
    """How often each reason was given in a run, `check:reason`."""
    missing: list[Path] = field(default_factory=list)
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
        for number, run in enumerate(self.runs):
            sources = [self._source(one) for one in _sources(run)]
            self._heads(number, [source for source in sources if source is not None], progress)
            self.reasons.append(Counter())
            if jsonl.exists(run.grades):  # what sampling went by; the filter's word counts more
                self._grades(number, run.grades)
            if jsonl.exists(run.verdicts):
                self._verdicts(number, run.verdicts, progress)
        self._db.commit()
        self.total = self._db.execute("SELECT count(*) FROM traces").fetchone()[0]

    def _source(self, run: Run) -> int | None:
        """The number of a folder that traces are read from, whose problems are noted when it is first met."""
        for number, known in enumerate(self._sources):
            if known.folder.resolve() == run.folder.resolve():
                return number
        if not jsonl.exists(run.traces):
            self.missing.append(run.folder)
            return None
        number = len(self._sources)
        self._sources.append(run)
        if jsonl.exists(run.problems):
            rows = ((number, row["id"], row.get("set", ""), at) for at, _, row in _rows(run.problems, "id"))
            self._db.executemany("INSERT OR REPLACE INTO problems VALUES(?,?,?,?)", rows)
        return number

    def _heads(self, run: int, sources: Sequence[int], progress: Progress) -> None:
        family = "coalesce((SELECT family FROM problems WHERE source=? AND id=?), '')"
        add = f"INSERT OR REPLACE INTO traces(run, id, source, at, problem, family) VALUES(?,?,?,?,?,{family})"
        for source in sources:
            log = self._sources[source].traces
            progress.start(f"traces of {self._sources[source].folder.name}", jsonl.size(log) >> 20, unit="MB")
            told = 0
            for head in jsonl.heads(log):
                named = (run, head.id, source, head.at, head.problem_id, source, head.problem_id)
                self._db.execute(add, named)  # of an id the last row counts
                if (head.at >> 20) > told:
                    progress.advance((head.at >> 20) - told)
                    told = head.at >> 20
            progress.stop()

    def _grades(self, run: int, path: Path) -> None:
        grades = ((row.get("passed"), run, row["trace_id"]) for _, _, row in _rows(path, "trace_id"))
        self._db.executemany("UPDATE traces SET correct=? WHERE run=? AND id=?", grades)

    def _verdicts(self, run: int, path: Path, progress: Progress) -> None:
        progress.start(f"verdicts of {self.runs[run].folder.name}", max(1, jsonl.size(path) >> 20), unit="MB")
        known = "decision=?, reason=?, correct=coalesce(?, correct), start=?, end=?"
        update = f"UPDATE traces SET {known} WHERE run=? AND id=?"  # noqa: S608
        told = 0
        for start, end, rows in _together(path):
            words = {row["check"]: row for row in rows}
            decision, id = words.pop("decision", {}), rows[0]["trace_id"]
            word = _DECISIONS[decision["passed"]] if decision else "unjudged"
            named = self._name(run, list(reasons(rows)))
            for name in named:
                self._note(run, name, id)
            first = decision.get("reason", "")
            group = first if first in named or not first else _OTHER
            correct = words.get("correct", {}).get("passed")
            self._db.execute(update, (word, group, correct, start, end, run, id))
            if (end >> 20) > told:
                progress.advance((end >> 20) - told)
                told = end >> 20
        progress.stop()

    def _name(self, run: int, given: list[str]) -> list[str]:
        counts = self.reasons[run]
        return [name if name in counts or len(counts) < _REASONS else _OTHER for name in given]

    def _note(self, run: int, name: str, id: str) -> None:
        """Count a reason, and keep the smallest ids as examples of it."""
        self.reasons[run][name] += 1
        examples = self._examples.setdefault((run, name), [])
        if len(examples) < EXAMPLES or id < examples[-1]:
            insort(examples, id)
            del examples[EXAMPLES:]

    def choose(self, most: int) -> list[Group]:
        """Draw at most so many traces: all, or examples of every reason and a share of every group.

        Within a group those with the smallest ids are taken: ids are hashes, so that is a draw, and the same each time.
        """
        if self.total <= most:
            self._db.execute("UPDATE traces SET chosen=1")
            return self._groups()
        each = min(EXAMPLES, max(1, most // (2 * max(1, len(self._examples)))))
        examples = [(run, id) for (run, _), ids in sorted(self._examples.items()) for id in ids[:each]]
        self._take(list(dict.fromkeys(examples))[:most])
        self._db.execute(f"CREATE INDEX by_group ON traces({_GROUP}, chosen, id)")
        groups = self._groups()
        taken = shares([group.size - group.drawn for group in groups], most - sum(group.drawn for group in groups))
        alike = " AND ".join(f"{name.strip()} IS ?" for name in _GROUP.split(","))
        draw = f"SELECT run, id FROM traces WHERE {alike} AND chosen=0 ORDER BY id LIMIT ?"  # noqa: S608
        for group, count in zip(groups, taken, strict=True):
            self._take(self._db.execute(draw, (*group[:5], count)).fetchall())
        return self._groups()

    def _take(self, named: Sequence[tuple[int, str]]) -> None:
        self._db.executemany("UPDATE traces SET chosen=1 WHERE run=? AND id=?", named)

    def _groups(self) -> list[Group]:
        counted = f"SELECT {_GROUP}, count(*), sum(chosen) FROM traces GROUP BY {_GROUP} ORDER BY {_GROUP}"  # noqa: S608
        return [
            Group(run, decision, reason, family, None if correct is None else bool(correct), size, drawn)
            for run, decision, reason, family, correct, size, drawn in self._db.execute(counted)
        ]

    def __iter__(self) -> Iterator[Excerpt]:
        asked = (
            "SELECT run, traces.id, decision, reason, correct, traces.source, traces.at, problems.at, start, end "
            "FROM traces LEFT JOIN problems ON problems.source = traces.source AND problems.id = traces.problem "
            "WHERE chosen=1 ORDER BY run, traces.source, traces.at"
        )
        for run, id, decision, reason, correct, source, at, problem, start, end in self._db.execute(asked):
            place, verdicts = self._sources[source], str(self.runs[run].verdicts)
            yield Excerpt(
                run=run,
                id=id,
                decision=decision,
                reason=reason,
                correct=None if correct is None else bool(correct),
                trace=(place.traces, at),
                problem=None if problem is None else (place.problems, problem),
                verdicts=None if start is None else Chunk(verdicts, start, end),
            )


def reasons(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Why a trace was not simply kept: `check:reason` of each check that did not pass it, and what selection says."""
    for row in rows:
        if row["check"] != "decision" and row["passed"] is not True:
            yield f"{row['check']}:{row['reason']}"
        elif row["check"] == "decision" and row["passed"] is False and ":" not in row["reason"]:
            yield row["reason"]  # not_selected: it was accepted and not drawn


def shares(sizes: Sequence[int], most: int) -> list[int]:
    """How many to take of groups of these sizes, `most` in all: `FLOOR` of each (or all) first, the rest in proportion.

    What proportions leave over goes to the largest remainders, then to the first groups.
    """
    floor = min(FLOOR, most // max(1, 2 * len(sizes)))
    taken = [min(size, floor) for size in sizes]
    left = [size - share for size, share in zip(sizes, taken, strict=True)]
    rest, total = most - sum(taken), sum(left)
    if total <= rest:
        return list(sizes)
    exact = [divmod(rest * size, total) for size in left]
    over = rest - sum(whole for whole, _ in exact)
    luckiest = set(sorted(range(len(sizes)), key=lambda place: (-exact[place][1], place))[:over])
    return [
        share + whole + (place in luckiest) for place, (share, (whole, _)) in enumerate(zip(taken, exact, strict=True))
    ]


def _sources(run: Run) -> list[Run]:
    """The run itself, or those whose traces its filter was told to read."""
    named = run.state().get("recipe", {}).get("filter", {}).get("traces") or []
    return [Run(Path(folder)) for folder in named] or [run]


def _together(path: Path) -> Iterator[tuple[int, int, list[dict[str, Any]]]]:
    """(first place, end, rows) of verdicts that stand together because they are of one trace."""
    rows: list[dict[str, Any]] = []
    first = last = 0
    for start, end, row in _rows(path, "trace_id", "check", "passed", "reason"):
        if rows and rows[0]["trace_id"] != row["trace_id"]:
            yield first, last, rows
            rows = []
        if not rows:
            first = start
        rows.append(row)
        last = end
    if rows:
        yield first, last, rows


def _rows(path: Path, *needed: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(place, end, row) of a log.

    Raises:
        InputError: a line is no JSON object, or lacks a field.
    """
    for chunk in jsonl.chunks(path, _BLOCK):
        for at, line in jsonl.lines(chunk):
            try:
                row = orjson.loads(line)
                for name in needed:
                    row[name]
            except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                raise InputError(
                    f"the line at byte {at} is no row of this log", where=str(path), fix="mend or remove that line"
                ) from error
            yield at, at + len(line), row
