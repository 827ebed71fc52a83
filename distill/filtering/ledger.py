"""The filter's memory: outcomes of a million traces by id in one SQLite file, so that they need no memory.

It outlives the run: a later one takes from it what has not changed and judges only the rest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from distill.errors import RunError
from distill.filtering.packing import feature_at, pack_outcomes, unpack_outcomes
from distill.filtering.problems import ProblemIndex
from distill.filters import Candidate
from distill.store import jsonl
from distill.types import Outcome, Problem, Trace

_SCHEMA = """
CREATE TABLE facts(name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
CREATE TABLE traces(
    number INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, problem TEXT NOT NULL, sample INTEGER NOT NULL,
    family TEXT NOT NULL, characters INTEGER NOT NULL, tokens INTEGER, source INTEGER NOT NULL, path TEXT NOT NULL,
    at INTEGER NOT NULL, basis BLOB NOT NULL, outcomes BLOB NOT NULL, features BLOB NOT NULL,
    rejects INTEGER NOT NULL, unsure INTEGER NOT NULL);
CREATE TABLE settled(number INTEGER, name TEXT, outcome BLOB, PRIMARY KEY(number, name)) WITHOUT ROWID;
CREATE TABLE kept(number INTEGER PRIMARY KEY, place BLOB NOT NULL);
"""
_PAGE = 2000
_NUMBERS = "SELECT id, number FROM traces WHERE id IN (SELECT value FROM json_each(?))"
_SETTLED = "SELECT number, outcome FROM settled WHERE number IN (SELECT value FROM json_each(?))"


@dataclass(frozen=True, slots=True)
class CheckedTrace:
    """The outcomes of all checks on one trace, as a worker sends them."""

    id: str
    problem_id: str
    sample: int
    problem_set: str
    characters: int
    tokens: int | None
    path: str
    offset: int
    """Where the trace's line begins in `path`."""
    basis: bytes
    """Hash of the trace and its problem: the outcomes hold as long as it does."""
    outcomes: bytes
    """By check, packed by `pack_outcomes`: by the worker, since one process stores what all of them send."""
    features: bytes
    """Features of all checks, packed by `pack_features`."""
    rejects: int
    """A bit for each check that rejects, in the order of the recipe."""
    undecided: int
    """A bit for each check that is undecided, in the order of the recipe."""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A trace with the final outcome of every check."""

    number: int
    id: str
    problem_id: str
    sample: int
    problem_set: str
    characters: int
    outcomes: dict[str, Outcome]
    is_kept: bool


def _json_array(keys: Iterable[int | str]) -> str:
    return orjson.dumps(list(keys)).decode()


class Ledger:
    """One run of the filter, written to `path`; use as a context manager.

    Args:
        fingerprints: one of each check, by its name, in the order of the recipe.
    """

    def __init__(self, path: Path, fingerprints: Mapping[str, str]) -> None:
        self.path = path
        self.check_names: Sequence[str] = list(fingerprints)
        self.bits = {name: 1 << position for position, name in enumerate(self.check_names)}
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in (path, path.with_name(path.name + "-journal")):
            leftover.unlink(missing_ok=True)
        self._db = sqlite3.connect(path)
        # a crash costs what was not committed; the verdicts are in traces.jsonl's keeping and can be made again
        self._db.executescript("PRAGMA synchronous=OFF; PRAGMA cache_size=-16000;" + _SCHEMA)
        self._db.execute("INSERT INTO facts VALUES('prints', ?)", [orjson.dumps(dict(fingerprints))])
        self._db.commit()
        self.count = 0
        self.repeats = 0

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def add(self, traces: Iterable[CheckedTrace], source: int, limit: int | None = None) -> int:
        """Take a chunk's traces; returns how many were new.

        A later row of an id takes the earlier one's place and keeps its number: a log's last row of an id counts.
        """
        count_before = self.count
        rows = list(traces)
        number_by_id = dict(self._execute(_NUMBERS, (_json_array(row.id for row in rows),)))
        records = []
        for row in rows:
            if limit is not None and self.count >= limit:
                break
            number = number_by_id.setdefault(row.id, self.count)
            is_new = number == self.count
            self.count += is_new
            self.repeats += not is_new
            records.append(
                (
                    number, row.id, row.problem_id, row.sample, row.problem_set, row.characters, row.tokens, source,
                    row.path, row.offset, row.basis, row.outcomes, row.features, row.rejects, row.undecided,
                )
            )  # fmt: skip
        placeholders = ",".join("?" * 15)
        self._execute(f"INSERT OR REPLACE INTO traces VALUES({placeholders})", records, self._db.executemany)
        self._db.commit()
        return self.count - count_before

    def _execute(
        self, statement: str, values: Sequence[object] = (), execute: Callable[..., sqlite3.Cursor] | None = None
    ) -> sqlite3.Cursor:
        try:
            return (execute or self._db.execute)(statement, values)
        except sqlite3.OperationalError as error:  # a full disk, most often
            raise RunError(
                f"cannot write: {error}", where=str(self.path), fix="free some space, then run it again"
            ) from error

    def sort(self) -> None:
        """Make the index for reading traces by problem; called once all traces are in."""
        self._execute("CREATE INDEX by_problem ON traces(problem, sample, id)")
        self._db.commit()

    def settle(self, name: str, outcomes: Iterable[tuple[int, Outcome]]) -> int:
        """Replace outcomes of one check and return how many were replaced."""
        count = 0
        bit = self.bits[name]
        for number, outcome in outcomes:
            packed = pack_outcomes({name: outcome})
            self._execute("INSERT OR REPLACE INTO settled VALUES(?,?,?)", (number, name, packed))
            self._execute(
                "UPDATE traces SET rejects=(rejects & ~?)|?, unsure=(unsure & ~?)|? WHERE number=?",
                (bit, bit * (outcome.passed is False), bit, bit * (outcome.passed is None), number),
            )
            count += 1
        self._db.commit()
        return count

    def candidates(self, name: str, problems: ProblemIndex) -> LedgerCandidates:
        return LedgerCandidates(self, name, problems)

    def rows(self, columns: str) -> Iterator[tuple[Any, ...]]:
        """Rows of problem, sample, id and `columns` in that order; read by pages so that others can write meanwhile."""
        last_key: tuple[Any, ...] = ("", -1, "")
        while True:
            page = self._execute(
                f"SELECT problem, sample, id, {columns} FROM traces WHERE (problem, sample, id) > (?,?,?) "  # noqa: S608
                f"ORDER BY problem, sample, id LIMIT {_PAGE}",
                last_key,
            ).fetchall()
            yield from page
            if len(page) < _PAGE:
                return
            last_key = page[-1][:3]

    def final_outcomes(self, first_outcomes: Mapping[int, bytes]) -> Iterator[dict[str, Outcome]]:
        """The final outcomes of all checks on traces, given their numbers and packed first outcomes."""
        settled: dict[int, dict[str, Outcome]] = {}
        for number, outcome in self._execute(_SETTLED, (_json_array(first_outcomes),)):
            settled.setdefault(number, {}).update(unpack_outcomes(outcome))
        for number, outcomes in first_outcomes.items():
            yield unpack_outcomes(outcomes) | settled.get(number, {})

    def entries(self) -> Iterator[LedgerEntry]:
        """All traces in the order of the logs."""
        number = -1
        while page := self._execute(
            "SELECT traces.number, id, problem, sample, family, characters, outcomes, kept.number IS NOT NULL "
            "FROM traces LEFT JOIN kept ON kept.number = traces.number WHERE traces.number > ? "
            "ORDER BY traces.number LIMIT ?",
            (number, _PAGE),
        ).fetchall():
            final = self.final_outcomes({row[0]: row[6] for row in page})
            for (number, id, problem, sample, family, characters, _, kept), outcomes in zip(page, final, strict=True):
                yield LedgerEntry(number, id, problem, sample, family, characters, outcomes, bool(kept))

    def keep(self, rows: Iterable[tuple[int, bytes]]) -> int:
        """Remember the traces to train on with their place in the set's order; forgets an earlier choice."""
        self._execute("DELETE FROM kept")
        count = 0
        for row in rows:
            self._execute("INSERT INTO kept VALUES(?,?)", row)
            count += 1
        self._db.commit()
        return count

    def kept_rows(self) -> Iterator[tuple[bytes, int, str, int, int | None]]:
        """(place, source, path, offset, tokens) of the traces to train on, in the order of the logs."""
        number = -1
        while page := self._execute(
            "SELECT kept.number, place, source, path, at, tokens FROM kept JOIN traces USING(number) "
            "WHERE kept.number > ? ORDER BY kept.number LIMIT ?",
            (number, _PAGE),
        ).fetchall():
            yield from (row[1:] for row in page)
            number = page[-1][0]

    def kept_bytes(self) -> int:
        """About how much text the chosen traces have; 0 only if there are none."""
        row = self._execute("SELECT coalesce(sum(characters + 1), 0) FROM traces JOIN kept USING(number)").fetchone()
        return int(row[0])

    def load(self, numbers: Iterable[int], problems: ProblemIndex) -> Iterator[tuple[int, Problem, Trace]]:
        """The records behind traces, in the order asked for."""
        for number in numbers:
            statement = "SELECT source, path, at FROM traces WHERE number=?"
            source, path, offset = self._execute(statement, (number,)).fetchone()
            trace = Trace.model_validate_json(jsonl.line_at(path, offset))
            problem = problems.get(source, trace.problem_id)
            if problem is None:
                raise RunError(f"problem {trace.problem_id} is gone", where=path, fix="run the filter again")
            yield number, problem, trace


class LedgerCandidates:
    """Implements distill.filters.Candidates over the ledger."""

    def __init__(self, ledger: Ledger, name: str, problems: ProblemIndex) -> None:
        self._ledger = ledger
        self._name = name
        self._problems = problems

    def __iter__(self) -> Iterator[Candidate]:
        position = self._ledger.check_names.index(self._name)
        own_bit = self._ledger.bits[self._name]
        correct_bit = self._ledger.bits.get("correct", 0)
        rows = self._ledger.rows("number, outcomes, features, rejects, unsure")
        for problem_id, sample, trace_id, number, outcomes, features, rejects, unsure in rows:
            is_decided = correct_bit and not unsure & correct_bit
            yield Candidate(
                number=number,
                trace_id=trace_id,
                problem_id=problem_id,
                sample=sample,
                passes_others=not (rejects | unsure) & ~own_bit,
                correct=not rejects & correct_bit if is_decided else None,
                first_outcome=partial(self._first_outcome, outcomes),
                feature=feature_at(features, position),
            )

    def _first_outcome(self, outcomes: bytes) -> Outcome:
        return unpack_outcomes(outcomes)[self._name]

    def load(self, numbers: Iterable[int]) -> Iterator[tuple[int, Problem, Trace]]:
        return self._ledger.load(numbers, self._problems)
