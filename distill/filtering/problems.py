"""Problems of all runs that are filtered, by id, in one SQLite file that every worker reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import orjson

from distill.run import Run
from distill.store import jsonl
from distill.types import Problem


class ProblemIndex:
    """Problems of all sources by id, read from a SQLite file."""

    def __init__(self, path: Path) -> None:
        self._db = read_only(path)
        self._recent: dict[tuple[int, str], tuple[Problem, bytes]] = {}

    @staticmethod
    def write(path: Path, sources: Sequence[Run]) -> None:
        """Index the runs' problems, with how far each was sampled; the position of a run is its source number."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        db = sqlite3.connect(path)
        db.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
            "CREATE TABLE problems(source INTEGER, id TEXT, row BLOB, PRIMARY KEY(source, id)) WITHOUT ROWID;"
        )
        for source, run in enumerate(sources):
            rows = ((source, row["id"], orjson.dumps(row)) for _, row in jsonl.rows(run.problems))
            db.executemany("INSERT OR REPLACE INTO problems VALUES(?,?,?)", rows)
            if run.rates.exists():
                with_rate = "CAST(json_set(row, '$.metadata.sampled', json(?)) AS BLOB)"
                statement = f"UPDATE problems SET row = {with_rate} WHERE source=? AND id=?"  # noqa: S608
                rates = ((orjson.dumps(rate).decode(), source, rate["problem_id"]) for _, rate in jsonl.rows(run.rates))
                db.executemany(statement, rates)
        db.commit()
        db.close()

    def get_with_row(self, source: int, id: str) -> tuple[Problem, bytes] | None:
        """A problem and its stored row; the last few are remembered, since traces of one often stand together."""
        entry = self._recent.get((source, id))
        if entry is None:
            row = self._db.execute("SELECT row FROM problems WHERE source=? AND id=?", (source, id)).fetchone()
            if row is None:
                return None
            if len(self._recent) >= 1000:
                self._recent.clear()
            entry = (Problem.model_validate_json(row[0]), row[0])
            self._recent[source, id] = entry
        return entry

    def get(self, source: int, id: str) -> Problem | None:
        entry = self.get_with_row(source, id)
        return entry[0] if entry else None

    def close(self) -> None:
        self._db.close()


def read_only(path: Path) -> sqlite3.Connection:
    """Open a SQLite file without a lock, so that many machines can read it over a shared file system."""
    return sqlite3.connect(path.resolve().as_uri() + "?mode=ro&immutable=1", uri=True, check_same_thread=False)
