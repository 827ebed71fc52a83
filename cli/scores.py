"""Tables of an evaluation: scores, paired differences, budget curves, lighteval's numbers; never a problem's text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from pydantic import ConfigDict, TypeAdapter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from distill.evaluation.report import Difference, Point
from distill.run import Run
from distill.types import Metric, Record, Score

_LIGHTEVAL = "lighteval:"


class ModelCurve(Record):
    """A model in eval/report.json, as far as the terminal shows it."""

    model_config = ConfigDict(extra="ignore")

    role: str
    budget: tuple[Point, ...]


class SetComparison(Record):
    """A set in eval/report.json, as far as the terminal shows it."""

    model_config = ConfigDict(extra="ignore")

    set: str
    differences: tuple[Difference, ...]
    models: tuple[ModelCurve, ...]


class Comparisons(Record):
    """The file eval/report.json, as far as the terminal shows it."""

    model_config = ConfigDict(extra="ignore")

    sets: tuple[SetComparison, ...]


def scores(console: Console, run: Run) -> None:
    """Show what scores.json and eval/report.json say."""
    rows = TypeAdapter(list[Score]).validate_json(run.scores_file.read_bytes())
    own_rows = [row for row in rows if not row.set.startswith(_LIGHTEVAL)]
    path = run.eval / "report.json"
    comparisons = {}
    if path.is_file():
        comparisons = {compared.set: compared for compared in Comparisons.model_validate_json(path.read_bytes()).sets}
    for name, group in groupby(own_rows, key=lambda row: row.set):
        _scores(console, name, list(group))
        if name in comparisons:
            _differences(console, comparisons[name].differences)
            _budgets(console, comparisons[name].models)
    _lighteval(console, [row for row in rows if row.set.startswith(_LIGHTEVAL)])


def _scores(console: Console, name: str, rows: Sequence[Score]) -> None:
    n = rows[0].n
    of_several = [f"pass@{n}", f"cons@{n}"] if n > 1 else []
    candidates = ["pass@1", *of_several, "truncated", "answered", "tokens"]
    metrics = [metric for metric in candidates if any(metric in row.metrics for row in rows)]
    title = f"{name}: {n} sample{'s' if n > 1 else ''} a problem, 95 % intervals over problems"
    table = Table(title=title, title_justify="left")
    table.add_column("model")
    for metric in metrics:
        table.add_column({"truncated": "cut"}.get(metric, metric), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.role, *(_metric(metric, row.metrics.get(metric)) for metric in metrics))
    console.print(table)


def _metric(name: str, metric: Metric | None) -> str:
    if metric is None:
        return "–"
    if name == "tokens":
        return f"{metric.value:,.0f}"
    if name == "pass@1":
        return _percent(metric)
    return f"{100 * metric.value:.1f}"


def _percent(metric: Metric | Difference, sign: str = "") -> str:
    text = f"{100 * metric.value:{sign}.1f}"
    if metric.low is None or metric.high is None:
        return text
    return f"{text} [{100 * metric.low:.1f}, {100 * metric.high:.1f}]"


def _differences(console: Console, rows: Sequence[Difference]) -> None:
    """Show the differences of pass@1; the report has those of cons@n and tokens, too."""
    rows = [row for row in rows if row.metric == "pass@1"]
    if not rows:
        return
    table = Table(title="pass@1, paired by problem", title_justify="left")
    table.add_column("")
    for heading in ("difference", "p", "problems"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        p = "<0.001" if row.p < 0.001 else f"{row.p:.3f}"
        table.add_row(f"{row.first} − {row.second}", _percent(row, "+"), p, f"{row.problems:,}")
    console.print(table)


def _budgets(console: Console, models: Sequence[ModelCurve]) -> None:
    """Show every second point of the budget curves: the budget halved and halved again."""
    table = Table(title="pass@1 had the token budget been", title_justify="left")
    table.add_column("model")
    for point in models[0].budget[::-2][::-1]:
        table.add_column(f"{point.at:,}", justify="right", no_wrap=True)
    for model in models:
        points = model.budget[::-2][::-1]
        table.add_row(model.role, *(f"{100 * point.metrics['pass@1'].value:.1f}" for point in points))
    console.print(table)


def _lighteval(console: Console, rows: Sequence[Score]) -> None:
    if not rows:
        return
    table = Table(title="lighteval, its own prompts and graders", title_justify="left")
    for heading in ("model", "task", "metric"):
        table.add_column(heading)
    table.add_column("value", justify="right", no_wrap=True)
    for row in rows:
        for name, metric in row.metrics.items():
            table.add_row(row.role, Text(row.set.removeprefix(_LIGHTEVAL)), Text(name), _percent(metric))
    console.print(table)
