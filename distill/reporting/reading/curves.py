"""The curves of metrics.jsonl: one value a step, thinned out so that a long training is a few hundred points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from distill.reporting.charts.numbers import is_drawable
from distill.reporting.charts.plots import Curve
from distill.run import Run
from distill.store import jsonl

MAX_POINTS = 240
"""Points of a curve."""


@dataclass
class Curves:
    """The metrics of each stage's last training."""

    rows: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    """Metrics by name, by stage and step."""
    unreadable_lines: int = 0
    """Lines of metrics.jsonl that are no JSON; a loss that is not a number makes one."""

    def names(self, stage: str) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows.get(stage, {}).values() for name in row))

    def curve(self, stage: str, name: str, label: str) -> Curve:
        """One metric over the steps; thinned out, the mean of neighbours with their range as the band."""
        points_by_step = [(step, row[name]) for step, row in sorted(self.rows.get(stage, {}).items()) if name in row]
        group_size = -(-len(points_by_step) // MAX_POINTS)
        if group_size <= 1:
            return Curve(label, points_by_step)
        groups = [points_by_step[start : start + group_size] for start in range(0, len(points_by_step), group_size)]
        points = [(_mean([step for step, _ in group]), _mean([value for _, value in group])) for group in groups]
        band = [
            (x, min(value for _, value in group), max(value for _, value in group))
            for (x, _), group in zip(points, groups, strict=True)
        ]
        return Curve(label, points, band)


def read(run: Run) -> Curves:
    """Read metrics.jsonl once. A training that was resumed, or done again, replaces the steps from there on."""
    curves = Curves()
    if not run.metrics.is_file():
        return curves

    def skip(_line: int, _text: str) -> None:
        curves.unreadable_lines += 1

    for _, row in jsonl.rows(run.metrics, skip):
        step = row.get("step")
        if isinstance(step, int) and isinstance(row.get("stage"), str):
            rows_by_step = curves.rows.setdefault(row["stage"], {})
            if rows_by_step and step <= next(reversed(rows_by_step)):
                for replaced_step in [known_step for known_step in rows_by_step if known_step >= step]:
                    del rows_by_step[replaced_step]
            rows_by_step[step] = {
                name: float(value) for name, value in row.items() if name != "step" and _is_number(value)
            }
    return curves


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and is_drawable(value)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
