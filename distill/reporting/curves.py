"""The curves of metrics.jsonl: one value a step, thinned out so that a long training is a few hundred points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from distill.reporting.charts.plots import Line
from distill.reporting.numbers import finite
from distill.run import Run
from distill.store import jsonl

MOST = 240
"""Points of a curve."""


@dataclass
class Curves:
    """By stage: the rows of its last training, by step."""

    rows: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    unread: int = 0
    """Lines that are no JSON; a loss that is not a number makes one."""

    def names(self, stage: str) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows.get(stage, {}).values() for name in row))

    def line(self, stage: str, name: str, label: str) -> Line:
        """One metric over the steps; thinned out, the mean of neighbours with their range as the band."""
        found = [(step, row[name]) for step, row in sorted(self.rows.get(stage, {}).items()) if name in row]
        size = -(-len(found) // MOST)
        if size <= 1:
            return Line(label, found)
        groups = [found[at : at + size] for at in range(0, len(found), size)]
        points = [(_mean([step for step, _ in group]), _mean([value for _, value in group])) for group in groups]
        band = [
            (x, min(value for _, value in group), max(value for _, value in group))
            for (x, _), group in zip(points, groups, strict=True)
        ]
        return Line(label, points, band)


def read(run: Run) -> Curves:
    """Reads metrics.jsonl once. A training that was resumed, or done again, replaces the steps from there on."""
    found = Curves()
    if not run.metrics.is_file():
        return found

    def skip(_line: int, _text: str) -> None:
        found.unread += 1

    for _, row in jsonl.rows(run.metrics, skip):
        step = row.get("step")
        if isinstance(step, int) and isinstance(row.get("stage"), str):
            rows = found.rows.setdefault(row["stage"], {})
            if rows and step <= next(reversed(rows)):
                for late in [at for at in rows if at >= step]:
                    del rows[late]
            rows[step] = {name: float(value) for name, value in row.items() if name != "step" and _is_number(value)}
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and finite(value)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
