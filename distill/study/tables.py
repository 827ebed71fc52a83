"""The tables that compare a study's arms, as text: for the terminal, and as Markdown for study.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from distill.errors import writing
from distill.evaluation import arms
from distill.evaluation.arms import ArmRow, ArmTable, Gap, SeedGap
from distill.recipe import Recipe
from distill.types import Metric


class TextTable(NamedTuple):
    """A table as it is shown."""

    title: str
    headings: list[str]
    rows: list[list[str]]


def write_markdown(recipe: Recipe, arm_tables: Sequence[ArmTable], path: Path) -> None:
    """Write the tables as Markdown, unless the file says the same already."""
    text = f"# {recipe.name}\n\n{recipe.description}\n\n" + "\n\n".join(map(_markdown, arm_tables)) + "\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with writing(path):
            path.write_text(text, encoding="utf-8")


def tables(arm_table: ArmTable) -> list[TextTable]:
    """What there is to show of the arms on one problem set: scores, each seed alone, token budgets."""
    baselines = _baselines(arm_table)
    headings = _headings(baselines)
    text_tables = [TextTable(_title(arm_table), headings, [_cells(row, baselines) for row in arm_table.rows])]
    first_row = arm_table.rows[0]
    if len(first_row.seeds) > 1:
        seed_rows = [cells for row in arm_table.rows for cells in _seed_cells(row, baselines)]
        text_tables.append(TextTable("each seed alone", ["run", *headings[1 : 2 + len(baselines)]], seed_rows))
    budgets = [f"{first_row.budget[index].at:,}" for index in _budget_indices(first_row)]
    budget_rows = [_curve(row) for row in arm_table.rows]
    text_tables.append(TextTable("pass@1 had the token budget been", ["arm", *budgets], budget_rows))
    return text_tables


def _markdown(arm_table: ArmTable) -> str:
    parts = [f"{title}\n\n{_grid(headings, rows)}" for title, headings, rows in tables(arm_table)]
    parts.append("\n".join(f"- {row.arm}: {row.description}" for row in arm_table.rows if row.description))
    parts.append("\n".join(f"- {name}: {meaning}" for name, meaning in arms.ABOUT.items()))
    return "\n\n".join(part for part in parts if part)


_HEADINGS = {"tokens": "tokens", arms.PER_TOKENS: "right per 1,000 tokens", "truncated": "cut"}


def _cells(row: ArmRow, baselines: list[str]) -> list[str]:
    gaps_by_arm = {gap.against: gap for gap in row.differences}
    return [
        row.arm,
        _percent(row.metrics["pass@1"]),
        *(_gap(gaps_by_arm.get(baseline)) for baseline in baselines),
        f"{row.metrics['tokens'].value:,.0f}",
        _plain(row.metrics[arms.PER_TOKENS]),
        f"{100 * row.metrics['truncated'].value:.1f}",
    ]


def _headings(baselines: list[str]) -> list[str]:
    return ["arm", "pass@1", *(f"− {baseline}" for baseline in baselines), *_HEADINGS.values()]


def _seed_cells(row: ArmRow, baselines: list[str]) -> list[list[str]]:
    """The cells of each seed of an arm by itself."""
    gaps_by_arm = {gap.against: gap.seeds for gap in row.differences}
    cells = []
    for index, seed in enumerate(row.seeds):
        gaps = [gaps_by_arm[baseline][index] if baseline in gaps_by_arm else None for baseline in baselines]
        cells.append([f"{row.arm}-{seed.seed}", _percent(seed.metrics["pass@1"]), *map(_gap, gaps)])
    return cells


def _baselines(arm_table: ArmTable) -> list[str]:
    """The arms that the others are compared with, in their order."""
    rows = sorted(arm_table.rows, key=lambda row: -len(row.differences))  # an arm that is no baseline has them all
    return list(dict.fromkeys(gap.against for row in rows for gap in row.differences))


def _title(arm_table: ArmTable) -> str:
    return f"{arm_table.set}: {arm_table.problems:,} problems × {arm_table.samples} samples, percent, 95 % intervals"


def _curve(row: ArmRow) -> list[str]:
    return [row.arm, *(f"{100 * row.budget[index].metrics['pass@1'].value:.1f}" for index in _budget_indices(row))]


def _budget_indices(row: ArmRow) -> list[int]:
    """Indices of every second point of the curve: the budget halved and halved again."""
    return list(range(len(row.budget)))[::-2][::-1]


def _grid(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _percent(metric: Metric, sign: str = "") -> str:
    return _plain(Metric(**{name: value and 100 * value for name, value in metric.model_dump().items()}), 1, sign)


def _plain(metric: Metric, digits: int = 2, sign: str = "") -> str:
    text = f"{metric.value:{sign}.{digits}f}"
    if metric.low is None or metric.high is None:
        return text
    return f"{text} [{metric.low:.{digits}f}, {metric.high:.{digits}f}]"


def _gap(gap: Gap | SeedGap | None) -> str:
    if gap is None:
        return "–"
    p = "<0.001" if gap.p < 0.001 else f"{gap.p:.3f}"
    return f"{_percent(gap.value, '+')} p {p}"
