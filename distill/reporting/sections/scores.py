"""What the models score: values with their intervals, paired differences, budgets and numbers of samples."""

from __future__ import annotations

from collections.abc import Sequence

from distill.evaluation.report import ModelReport, Point
from distill.reporting.charts.numbers import interval, short
from distill.reporting.charts.plots import Chart, Curve, Dot, interval_chart, line_chart
from distill.reporting.charts.svg import MAX_SERIES
from distill.reporting.reading.gather import ReportedRun
from distill.reporting.sections.blocks import Section, TableBlock, labelled_texts, run_title
from distill.types import Score

_LIGHTEVAL = "lighteval:"
_SHARE_METRICS = ("truncated", "answered")
_COLUMN_NAMES = {"truncated": "cut"}


def scores(runs: Sequence[ReportedRun]) -> Section:
    several = len(runs) > 1
    section = Section(
        "scores",
        "Scores",
        "In percent, with 95 % intervals over problems: what another draw of problems and of samples would change.",
        left_out=labelled_texts([(run.label, run.missing_notes["scores"]) for run in runs if not run.scores], several),
    )
    set_names = dict.fromkeys(score.set for run in runs for score in run.scores)
    for set_name in set_names:
        rows = [(run, score) for run in runs for score in run.scores if score.set == set_name]
        if set_name.startswith(_LIGHTEVAL):
            section.blocks.append(_lighteval(set_name, rows, several))
            continue
        gap_charts, gap_tables = _differences(runs, set_name, several)
        section.blocks.append(_pass_rate_chart(set_name, rows, several))
        section.blocks += gap_charts
        section.blocks += _curve_charts(runs, set_name, several)
        section.blocks.append(_score_table(set_name, rows, several))
        section.blocks += gap_tables
    missing_reports = [(run.label, run.missing_notes["evals"]) for run in runs if run.scores and not run.eval_reports]
    section.left_out += labelled_texts(missing_reports, several)
    return section


def _model_label(run: ReportedRun, role: str, several: bool) -> str:
    return f"{run.label} · {role}" if several else role


def _pass_rate_chart(set_name: str, rows: Sequence[tuple[ReportedRun, Score]], several: bool) -> Chart:
    dots = []
    for run, score in rows:
        label = _model_label(run, score.role, several)
        metric = score.metrics.get("pass@1")
        if metric:
            dots.append(Dot(label, *_scaled((metric.value, metric.low, metric.high), 100)))
        else:
            dots.append(Dot(label, None))
    note = f"Mean over {_samples_text(rows)} a problem; the line is the 95 % interval."
    return interval_chart(f"pass@1 on {set_name}", note, "pass@1, percent", dots)


def _scaled(values: Sequence[float | None], factor: float) -> list[float | None]:
    return [None if value is None else factor * value for value in values]


def _samples_text(rows: Sequence[tuple[ReportedRun, Score]]) -> str:
    sample_counts = sorted({score.n for _, score in rows})
    if sample_counts == [1]:
        return "1 sample"
    return f"{' or '.join(map(str, sample_counts))} samples"


def _score_table(set_name: str, rows: Sequence[tuple[ReportedRun, Score]], several: bool) -> TableBlock:
    known_metrics = dict.fromkeys(metric for _, score in rows for metric in score.metrics)
    repeat_counts = sorted({score.n for _, score in rows if score.n > 1})
    columns = ["pass@1", *(f"{kind}@{n}" for n in repeat_counts for kind in ("pass", "cons")), *_SHARE_METRICS]
    columns = [metric for metric in columns if metric in known_metrics]
    body = []
    for run, score in rows:
        cells = [interval(score.metrics.get(metric), 100) for metric in columns]
        cells.append(interval(score.metrics.get("tokens"), digits=0))
        body.append((_model_label(run, score.role, several), score.model, *cells))
    head = ("", "model", *(_COLUMN_NAMES.get(metric, metric) for metric in columns), "tokens")
    return TableBlock(f"Scores on {set_name}, {_samples_text(rows)} a problem", head, tuple(body), words=2)


def _lighteval(set_name: str, rows: Sequence[tuple[ReportedRun, Score]], several: bool) -> TableBlock:
    body = [
        (_model_label(run, score.role, several), metric, interval(value, 100, 2))
        for run, score in rows
        for metric, value in score.metrics.items()
    ]
    title = f"lighteval, its own prompts and graders: {set_name.removeprefix(_LIGHTEVAL)}"
    return TableBlock(title, ("", "metric", "value"), tuple(body), words=2)


def _differences(runs: Sequence[ReportedRun], set_name: str, several: bool) -> tuple[list[Chart], list[TableBlock]]:
    """A chart of the differences of pass@1, and a table that has those of cons@n and tokens, too."""
    rows = []
    dots = []
    gaps = [
        (run, gap)
        for run in runs
        for report in run.eval_reports
        if report.set == set_name
        for gap in report.differences
    ]
    for run, gap in gaps:
        label = run_title(f"{gap.first} − {gap.second}", run.label, several)
        factor = 1 if gap.metric == "tokens" else 100
        value, low, high = _scaled((gap.value, gap.low, gap.high), factor)
        if gap.metric == "pass@1":
            dots.append(Dot(label, value, low, high))
        value_text = f"{value:+,.1f}"
        if low is not None and high is not None:
            value_text += f" [{low:+,.1f}, {high:+,.1f}]"
        p_text = "<0.001" if gap.p < 0.001 else f"{gap.p:.3f}"
        rows.append((label, gap.metric, value_text, p_text, f"{gap.problems:,}"))
    if not rows:
        return [], []
    head = ("", "of", "difference", "p", "problems")
    table = TableBlock(f"Paired differences on {set_name}, p of a sign-flip test", head, tuple(rows), words=2)
    if not dots:
        return [], [table]
    note = "First minus second on the same problems. An interval that keeps clear of 0 tells the two apart."
    return [interval_chart(f"Paired differences on {set_name}", note, "pass@1, percentage points", dots)], [table]


def _curve_charts(runs: Sequence[ReportedRun], set_name: str, several: bool) -> list[Chart | TableBlock]:
    measured_models = [
        (run, model) for run in runs for report in run.eval_reports if report.set == set_name for model in report.models
    ]
    drawn_models, choice = _models_to_draw(measured_models)
    if not drawn_models:
        return []
    choice_note = ""
    if choice:
        choice_note = f" Of {len(measured_models)} models {len(drawn_models)} are drawn: {choice}."
    budget_curves = [
        Curve(_model_label(run, model.role, several), *_points_and_band(model.budget, "pass@1"))
        for run, model in drawn_models
    ]
    note = (
        "Share of samples that were complete and right within so many tokens: what a smaller budget would have "
        "given. Nobody told the model of it. The band is the 95 % interval."
    )
    title = f"Accuracy by token budget on {set_name}"
    charts: list[Chart | TableBlock] = [
        line_chart(title, note + choice_note, budget_curves, "tokens, thinking and answer", "pass@1, %", log=True)
    ]
    for kind, kind_text in (("pass", "any of n right"), ("cons", "majority of n right")):
        curves = [
            Curve(_model_label(run, model.role, several), *_points_and_band(model.samples, kind))
            for run, model in drawn_models
        ]
        if any(len(curve.points) > 1 for curve in curves):
            title = f"{kind}@n on {set_name}: {kind_text}"
            note = "From the same samples; ties share the vote. The band is the 95 % interval."
            charts.append(
                line_chart(title, note + choice_note, curves, "n, samples", f"{kind}@n, %", log=True, show=short)
            )
    return charts


def _models_to_draw(
    measured_models: list[tuple[ReportedRun, ModelReport]],
) -> tuple[list[tuple[ReportedRun, ModelReport]], str]:
    """As many models as a chart tells apart, and how they were chosen where there are more."""
    if len(measured_models) <= MAX_SERIES:
        return measured_models, ""
    trained = [pair for pair in measured_models if pair[1].role in ("sft", "grpo")]
    return (trained or measured_models)[:MAX_SERIES], "trained students first"


def _points_and_band(
    points: Sequence[Point], metric: str
) -> tuple[list[tuple[float, float]], list[tuple[float, float | None, float | None]]]:
    """A curve's points and its band, in percent."""
    pairs = [(point.at, point.metrics[metric]) for point in points if metric in point.metrics]
    band = [
        (float(x), 100 * value.low, 100 * value.high)
        for x, value in pairs
        if value.low is not None and value.high is not None
    ]
    return [(x, 100 * value.value) for x, value in pairs], band  # type: ignore[return-value]
