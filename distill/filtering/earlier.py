"""What earlier runs of the filter said, as far as it still holds."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

import orjson

from distill.filtering.packing import unpack_features, unpack_outcomes
from distill.filtering.problems import read_only
from distill.types import Outcome


class EarlierOutcomes:
    """What earlier runs of the filter said, as far as it still holds.

    Args:
        paths: ledgers, the one to ask first at the front.
        fingerprints: those of the checks now; an outcome under another fingerprint does not hold.
    """

    def __init__(self, paths: Iterable[Path], fingerprints: Mapping[str, str]) -> None:
        self._ledgers = []
        for path in paths:
            db = read_only(path)
            recorded = orjson.loads(db.execute("SELECT value FROM facts WHERE name='prints'").fetchone()[0])
            names = list(recorded)
            unchanged = {name for name in names if recorded[name] == fingerprints.get(name)}
            if unchanged:
                self._ledgers.append((db, names, unchanged))

    def find(self, id: str, basis: bytes) -> tuple[dict[str, Outcome], dict[str, bytes]]:
        """Outcomes and features by check that can be taken over."""
        for db, names, unchanged in self._ledgers:
            row = db.execute("SELECT basis, outcomes, features FROM traces WHERE id=?", (id,)).fetchone()
            if row and row[0] == basis:
                outcomes = unpack_outcomes(row[1])
                features = unpack_features(names, row[2])
                return (
                    {name: outcome for name, outcome in outcomes.items() if name in unchanged},
                    {name: feature for name, feature in features.items() if name in unchanged},
                )
        return {}, {}


def is_usable(path: Path) -> bool:
    """Whether a ledger can be read; one of an interrupted run can, as far as it was committed."""
    if not path.is_file():
        return False
    try:
        db = sqlite3.connect(path)  # opened for writing once: rolls an interrupted write back
        db.execute("SELECT value FROM facts WHERE name='prints'").fetchone()
        is_sound = bool(db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
        db.close()
    except sqlite3.DatabaseError:
        return False
    return is_sound
