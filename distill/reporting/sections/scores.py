"""What the models score: values with their intervals, paired differences, budgets and numbers of samples."""

from __future__ import annotations

from collections.abc import Sequence

from distill.evaluation.report import Measured, Point
from distill.reporting.charts.plots import Chart, Dot, Line, lines, whiskers
from distill.reporting.charts.svg import SERIES
from distill.reporting.gather import Gathered
from distill.reporting.numbers import interval, short
from distill.reporting.sections.blocks import Section, Table, lacking, named
from distill.types import Score

_LIGHTEVAL = "lighteval:"
_SHARES = ("truncated", "answered")
_NAMES = {"truncated": "cut"}


def scores(runs: Sequence[Gathered]) -> Section:
    several = len(runs) > 1
    section = Section(
        "scores",
        "Scores",
        "In percent, with 95 % intervals over problems: what another draw of problems and of samples would change.",
        left_out=lacking([(one.label, one.notes["scores"]) for one in runs if not one.scores], several),
    )
    sets = dict.fromkeys(score.set for one in runs for score in one.scores)
    for name in sets:
        rows = [(one, score) for one in runs for score in one.scores if score.set == name]
        if name.startswith(_LIGHTEVAL):
            section.blocks.append(_lighteval(name, rows, several))
            continue
        gaps, paired = _differences(runs, name, several)
        section.blocks += [_dots(name, rows, several), *gaps, *_curves(runs, name, several)]
        section.blocks += [_table(name, rows, several), *paired]
    without = [(one.label, one.notes["evals"]) for one in runs if one.scores and not one.evals]
    section.left_out += lacking(without, several)
    return section


def _who(one: Gathered, role: str, several: bool) -> str:
    return f"{one.label} · {role}" if several else role


def _dots(name: str, rows: Sequence[tuple[Gathered, Score]], several: bool) -> Chart:
    dots = []
    for one, score in rows:
        metric = score.metrics.get("pass@1")
        ends = [100 * v if v is not None else None for v in (metric.value, metric.low, metric.high)] if metric else []
        dots.append(Dot(_who(one, score.role, several), *ends) if ends else Dot(_who(one, score.role, several), None))
    note = f"Mean over {_samples(rows)} a problem; the line is the 95 % interval."
    return whiskers(f"pass@1 on {name}", note, "pass@1, percent", dots)


def _samples(rows: Sequence[tuple[Gathered, Score]]) -> str:
    found = sorted({score.n for _, score in rows})
    return f"{' or '.join(map(str, found))} sample{'s' if found != [1] else ''}"


def _table(name: str, rows: Sequence[tuple[Gathered, Score]], several: bool) -> Table:
    known = dict.fromkeys(metric for _, score in rows for metric in score.metrics)
    most = sorted({score.n for _, score in rows if score.n > 1})
    columns = ["pass@1", *(f"{kind}@{n}" for n in most for kind in ("pass", "cons")), *_SHARES]
    columns = [metric for metric in columns if metric in known]
    body = []
    for one, score in rows:
        cells = [interval(score.metrics.get(metric), 100) for metric in columns]
        cells.append(interval(score.metrics.get("tokens"), digits=0))
        body.append((_who(one, score.role, several), score.model, *cells))
    head = ("", "model", *(_NAMES.get(metric, metric) for metric in columns), "tokens")
    return Table(f"Scores on {name}, {_samples(rows)} a problem", head, tuple(body), words=2)


def _lighteval(name: str, rows: Sequence[tuple[Gathered, Score]], several: bool) -> Table:
    body = [
        (_who(one, score.role, several), metric, interval(value, 100, 2))
        for one, score in rows
        for metric, value in score.metrics.items()
    ]
    title = f"lighteval, its own prompts and graders: {name.removeprefix(_LIGHTEVAL)}"
    return Table(title, ("", "metric", "value"), tuple(body), words=2)


def _differences(runs: Sequence[Gathered], name: str, several: bool) -> tuple[list[Chart], list[Table]]:
    """The chart has those of pass@1, the table those of cons@n and tokens, too."""
    rows, dots = [], []
    for one in runs:
        for report in one.evals:
            for gap in report.differences if report.set == name else ():
                who = named(f"{gap.first} − {gap.second}", one.label, several)
                scale = 1 if gap.metric == "tokens" else 100
                ends = [v if v is None else scale * v for v in (gap.value, gap.low, gap.high)]
                if gap.metric == "pass@1":
                    dots.append(Dot(who, *ends))
                shown = f"{ends[0]:+,.1f}"
                if ends[1] is not None and ends[2] is not None:
                    shown += f" [{ends[1]:+,.1f}, {ends[2]:+,.1f}]"
                p = "<0.001" if gap.p < 0.001 else f"{gap.p:.3f}"
                rows.append((who, gap.metric, shown, p, f"{gap.problems:,}"))
    if not rows:
        return [], []
    note = "First minus second on the same problems. An interval that keeps clear of 0 tells the two apart."
    head = ("", "of", "difference", "p", "problems")
    chart = [whiskers(f"Paired differences on {name}", note, "pass@1, percentage points", dots)] if dots else []
    return chart, [Table(f"Paired differences on {name}, p of a sign-flip test", head, tuple(rows), words=2)]


def _curves(runs: Sequence[Gathered], name: str, several: bool) -> list[Chart | Table]:
    found = [(one, model) for one in runs for report in one.evals if report.set == name for model in report.models]
    shown, left = _few(found)
    if not shown:
        return []
    more = f" Of {len(found)} models {len(shown)} are drawn: {left}." if left else ""
    budget = [Line(_who(one, model.role, several), *_line(model.budget, "pass@1")) for one, model in shown]
    note = (
        "Share of samples that were complete and right within so many tokens: what a smaller budget would have "
        "given. Nobody told the model of it. The band is the 95 % interval."
    )
    charts: list[Chart | Table] = [
        lines(
            f"Accuracy by token budget on {name}",
            note + more,
            budget,
            "tokens, thinking and answer",
            "pass@1, %",
            log=True,
        )
    ]
    for kind, what in (("pass", "any of n right"), ("cons", "majority of n right")):
        curves = [Line(_who(one, model.role, several), *_line(model.samples, kind)) for one, model in shown]
        if any(len(curve.points) > 1 for curve in curves):
            title = f"{kind}@n on {name}: {what}"
            note = "From the same samples; ties share the vote. The band is the 95 % interval."
            charts.append(lines(title, note + more, curves, "n, samples", f"{kind}@n, %", log=True, show=short))
    return charts


def _few(found: list[tuple[Gathered, Measured]]) -> tuple[list[tuple[Gathered, Measured]], str]:
    """As many as a chart tells apart: the trained students first where there are more."""
    if len(found) <= SERIES:
        return found, ""
    trained = [pair for pair in found if pair[1].role in ("sft", "grpo")]
    return (trained or found)[:SERIES], "trained students first"


def _line(
    points: Sequence[Point], metric: str
) -> tuple[list[tuple[float, float]], list[tuple[float, float | None, float | None]]]:
    """Points and band, in percent."""
    of = [(point.at, point.metrics[metric]) for point in points if metric in point.metrics]
    band = [
        (float(at), 100 * value.low, 100 * value.high)
        for at, value in of
        if value.low is not None and value.high is not None
    ]
    return [(at, 100 * value.value) for at, value in of], band  # type: ignore[return-value]
