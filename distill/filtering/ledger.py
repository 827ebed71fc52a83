"""The filter's memory: outcomes of a million traces by id in one SQLite file, so that they need no memory.

It outlives the run: a later one takes from it what has not changed and judges only the rest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from distill.errors import RunError
from distill.filtering.problems import Problems
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
_SETTLED = "SELECT number, name, outcome FROM settled WHERE number IN (SELECT value FROM json_each(?))"
Spoken = list[Any]
"""An outcome as it is stored: [passed, reason, score, detail]."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a worker says of one trace."""

    id: str
    problem: str
    sample: int
    family: str
    """The problem's set."""
    characters: int
    tokens: int | None
    path: str
    at: int
    """Where the trace's line begins in `path`."""
    basis: bytes
    """Hash of the trace and its problem: the outcomes hold as long as it does."""
    outcomes: bytes
    """JSON: name to `Spoken`. As it is stored, as the rest is: one process takes in what all the others say."""
    features: bytes
    """See `pack`."""
    rejects: int
    """A bit for each check, in the order of the recipe. So too the undecided ones."""
    unsure: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A trace with the last word of every check."""

    number: int
    id: str
    problem: str
    sample: int
    family: str
    characters: int
    outcomes: dict[str, Word]
    kept: bool


class Word(NamedTuple):
    """An outcome as it comes back: there are ten times as many as traces, and what a check said was validated once."""

    passed: bool | None
    reason: str
    score: float | None
    detail: str


def speak(outcome: Outcome) -> Spoken:
    return [outcome.passed, outcome.reason, outcome.score, outcome.detail]


def outcome(spoken: Spoken) -> Outcome:
    passed, reason, score, detail = spoken
    return Outcome(passed=passed, reason=reason, score=score, detail=detail)


def _these(keys: Iterable[int | str]) -> str:
    return orjson.dumps(list(keys)).decode()


class Ledger:
    """One run of the filter, written to `path`; use as a context manager.

    Args:
        prints: fingerprint of each check by name, in the order of the recipe.
    """

    def __init__(self, path: Path, prints: Mapping[str, str]) -> None:
        self.path = path
        self.names: Sequence[str] = list(prints)
        self.bits = {name: 1 << place for place, name in enumerate(self.names)}
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in (path, path.with_name(path.name + "-journal")):
            leftover.unlink(missing_ok=True)
        self._db = sqlite3.connect(path)
        # a crash costs what was not committed; the verdicts are in traces.jsonl's keeping and can be made again
        self._db.executescript("PRAGMA synchronous=OFF; PRAGMA cache_size=-16000;" + _SCHEMA)
        self._db.execute("INSERT INTO facts VALUES('prints', ?)", [orjson.dumps(dict(prints))])
        self._db.commit()
        self.count = self.orphans = self.repeats = 0

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def add(self, judged: Iterable[Judged], source: int, limit: int | None = None) -> int:
        """Take a chunk's traces; returns how many were new.

        A later row of an id takes the earlier one's place and keeps its number: a log's last row of an id counts.
        """
        before = self.count
        rows = list(judged)
        known = dict(self._execute(_NUMBERS, (_these(row.id for row in rows),)))
        taken = []
        for row in rows:
            if limit is not None and self.count >= limit:
                break
            number = known.setdefault(row.id, self.count)
            new = number == self.count
            self.count += new
            self.repeats += not new
            taken.append(
                (
                    number, row.id, row.problem, row.sample, row.family, row.characters, row.tokens, source, row.path,
                    row.at, row.basis, row.outcomes, row.features, row.rejects, row.unsure,
                )
            )  # fmt: skip
        marks = ",".join("?" * 15)
        self._execute(f"INSERT OR REPLACE INTO traces VALUES({marks})", taken, self._db.executemany)
        self._db.commit()
        return self.count - before

    def _execute(
        self, statement: str, values: Sequence[Any] = (), how: Callable[..., sqlite3.Cursor] | None = None
    ) -> sqlite3.Cursor:
        try:
            return (how or self._db.execute)(statement, values)
        except sqlite3.OperationalError as error:  # a full disk, most often
            raise RunError(
                f"cannot write: {error}", where=str(self.path), fix="free some space, then run it again"
            ) from error

    def sort(self) -> None:
        """Once all traces are in: an index for reading them by problem."""
        self._execute("CREATE INDEX by_problem ON traces(problem, sample, id)")
        self._db.commit()

    def settle(self, name: str, words: Iterable[tuple[int, Outcome]]) -> int:
        """Replace outcomes of one check; returns how many."""
        count = 0
        bit = self.bits[name]
        for number, found in words:
            self._execute("INSERT OR REPLACE INTO settled VALUES(?,?,?)", (number, name, orjson.dumps(speak(found))))
            rejects, unsure = bit * (found.passed is False), bit * (found.passed is None)
            self._execute(
                "UPDATE traces SET rejects=(rejects & ~?)|?, unsure=(unsure & ~?)|? WHERE number=?",
                (bit, rejects, bit, unsure, number),
            )
            count += 1
        self._db.commit()
        return count

    def candidates(self, name: str, problems: Problems) -> Known:
        return Known(self, name, problems)

    def rows(self, columns: str) -> Iterator[tuple[Any, ...]]:
        """Rows by problem, sample and id, which come before the columns asked for.

        Read page by page, so that the ledger can be written meanwhile.
        """
        after: tuple[Any, ...] = ("", -1, "")
        while True:
            page = self._execute(
                f"SELECT problem, sample, id, {columns} FROM traces WHERE (problem, sample, id) > (?,?,?) "  # noqa: S608
                f"ORDER BY problem, sample, id LIMIT {_PAGE}",
                after,
            ).fetchall()
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1][:3]

    def last_words(self, first: Mapping[int, bytes]) -> Iterator[dict[str, Spoken]]:
        """What every check said of traces at last, by their numbers and what it said at first."""
        settled: dict[int, dict[str, Spoken]] = {}
        for number, name, word in self._execute(_SETTLED, (_these(first),)):
            settled.setdefault(number, {})[name] = orjson.loads(word)
        for number, outcomes in first.items():
            yield orjson.loads(outcomes) | settled.get(number, {})

    def entries(self) -> Iterator[Entry]:
        """All traces in the order of the logs."""
        number = -1
        while page := self._execute(
            "SELECT traces.number, id, problem, sample, family, characters, outcomes, kept.number IS NOT NULL "
            "FROM traces LEFT JOIN kept ON kept.number = traces.number WHERE traces.number > ? "
            "ORDER BY traces.number LIMIT ?",
            (number, _PAGE),
        ).fetchall():
            said = self.last_words({row[0]: row[6] for row in page})
            for (number, id, problem, sample, family, characters, _, kept), spoken in zip(page, said, strict=True):
                words = {name: Word(*word) for name, word in spoken.items()}
                yield Entry(number, id, problem, sample, family, characters, words, bool(kept))

    def keep(self, rows: Iterable[tuple[int, bytes]]) -> int:
        """Remember the traces to train on with their place in the set's order; forgets an earlier choice."""
        self._execute("DELETE FROM kept")
        count = 0
        for row in rows:
            self._execute("INSERT INTO kept VALUES(?,?)", row)
            count += 1
        self._db.commit()
        return count

    def kept(self) -> Iterator[tuple[bytes, int, str, int, int | None]]:
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
        found = self._execute("SELECT coalesce(sum(characters + 1), 0) FROM traces JOIN kept USING(number)").fetchone()
        return int(found[0])

    def load(self, numbers: Iterable[int], problems: Problems) -> Iterator[tuple[int, Problem, Trace]]:
        """The records behind traces, in the order asked for."""
        for number in numbers:
            source, path, at = self._execute("SELECT source, path, at FROM traces WHERE number=?", (number,)).fetchone()
            trace = Trace.model_validate_json(jsonl.line_at(path, at))
            problem = problems.get(source, trace.problem_id)
            if problem is None:
                raise RunError(f"problem {trace.problem_id} is gone", where=path, fix="run the filter again")
            yield number, problem, trace


class Known:
    """Implements distill.filters.Candidates over the ledger."""

    def __init__(self, ledger: Ledger, name: str, problems: Problems) -> None:
        self._ledger, self._name, self._problems = ledger, name, problems

    def __iter__(self) -> Iterator[Candidate]:
        ledger = self._ledger
        place, own, correct = ledger.names.index(self._name), ledger.bits[self._name], ledger.bits.get("correct", 0)
        rows = ledger.rows("number, outcomes, features, rejects, unsure")
        for problem, sample, id, number, outcomes, features, rejects, unsure in rows:
            yield Candidate(
                number=number,
                trace_id=id,
                problem_id=problem,
                sample=sample,
                fit=not (rejects | unsure) & ~own,
                correct=None if not correct or unsure & correct else not rejects & correct,
                word=partial(self._word, outcomes),
                feature=_feature(features, place),
            )

    def _word(self, outcomes: bytes) -> Outcome:
        return outcome(orjson.loads(outcomes)[self._name])

    def load(self, numbers: Iterable[int]) -> Iterator[tuple[int, Problem, Trace]]:
        return self._ledger.load(numbers, self._problems)


def masks(outcomes: Iterable[Spoken]) -> tuple[int, int]:
    """Which checks reject and which are unsure, the first one's bit the lowest."""
    rejects = unsure = 0
    for place, spoken in enumerate(outcomes):
        rejects |= (spoken[0] is False) << place
        unsure |= (spoken[0] is None) << place
    return rejects, unsure


def pack(names: Sequence[str], features: Mapping[str, bytes]) -> bytes:
    """Features one after another, each behind the place of its check and its length."""
    return b"".join(
        bytes([place]) + len(features[name]).to_bytes(2, "big") + features[name]
        for place, name in enumerate(names)
        if name in features
    )


def unpack(names: Sequence[str], packed: bytes) -> dict[str, bytes]:
    return {names[place]: packed[first:last] for place, first, last in _packed(packed)}


def _feature(packed: bytes, wanted: int) -> bytes | None:
    """What `unpack` finds for the check at one place."""
    return next((packed[first:last] for place, first, last in _packed(packed) if place == wanted), None)


def _packed(packed: bytes) -> Iterator[tuple[int, int, int]]:
    """Place of a check, and where its feature begins and ends."""
    at = 0
    while at < len(packed):
        first = at + 3
        at = first + int.from_bytes(packed[at + 1 : first], "big")
        yield packed[first - 3], first, at
