"""Tables for people: what a stage did, the filter's funnel, the scores, the plan of a dry run."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from distill import pipeline
from distill.filtering.funnel import GroupCounts
from distill.models import presets
from distill.pipeline import StageResult
from distill.progress import LogLines, duration
from distill.recipe import Recipe, StageName
from distill.run import Run
from distill.sampling.forecast import Forecast
from distill.stages.filter import FilterSummary
from distill.store import jsonl

from .scores import scores


def stage(console: Console, done: StageResult, run: Run) -> None:
    """Show one line on a stage, and its table where it has one."""
    status = "unchanged" if done.fresh else f"done in {duration(done.seconds)}"
    console.print(f"[bold]{done.stage}[/bold] {status}: {done.summary.line()}", highlight=False)
    if isinstance(done.summary, FilterSummary):
        funnel(console, done.summary)
    if done.stage == "eval":
        scores(console, run)


def forecast(console: Console, estimate: Forecast) -> None:
    """Show what a whole problem set will take and yield, as a pilot tells."""
    title = f"forecast of {estimate.problems:,} problems from {estimate.pilot:,}, 95 % intervals"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for heading in ("in all", "from", "to", "done"):
        table.add_column(heading, justify="right", no_wrap=True)
    amounts = {
        "completion tokens": estimate.tokens,
        "prompt tokens": estimate.prompt_tokens,
        "traces": estimate.traces,
        "accepted traces": estimate.accepted,
        "problems solved": estimate.solved,
    }
    for name, amount in amounts.items():
        table.add_row(name, *(f"{value:,.0f}" for value in (amount.value, amount.low, amount.high, amount.done)))
    disk = estimate.disk
    table.add_row("traces.jsonl, MB", *(f"{v / 1e6:,.1f}" for v in (disk.value, disk.low, disk.high, disk.done)))
    engines = f"engine-hours ({estimate.engines} at once)" if estimate.engines > 1 else "engine-hours"
    figures = {
        "tokens per accepted": (estimate.tokens_per_accepted, ",.0f"),
        "tokens/s, engines full": (estimate.tokens_per_second, ",.0f"),
        "hours": (estimate.hours if estimate.engines > 1 else None, ",.2f"),
        engines: (estimate.engine_hours, ",.2f"),
        "cost": (estimate.cost, ",.2f"),
    }
    for name, (figure, form) in figures.items():
        if figure:
            bounds = ["" if bound is None else format(bound, form) for bound in (figure.low, figure.high)]
            table.add_row(name, format(figure.value, form), *bounds, "")
    console.print(table)
    for note in ("hours are without starting the engine", *estimate.notes):
        console.print(note, highlight=False, markup=False)


def funnel(console: Console, summary: FilterSummary) -> None:
    table = Table(title=f"filter: {summary.traces:,} traces", title_justify="left")
    table.add_column("check")
    for heading in ("rejects", "only it", "left"):
        table.add_column(heading, justify="right")
    table.add_column("reasons")
    for row in summary.checks:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in row.reasons.items())
        table.add_row(row.check, f"{row.rejects:,}", f"{row.only:,}", f"{row.left:,}", reasons)
    table.add_row("undecidable", f"{summary.undecidable:,}", "", "", "", end_section=True)
    table.add_row("[bold]kept[/bold]", "", "", f"[bold]{summary.kept:,}[/bold]", "")
    console.print(table)
    for source in summary.mix:
        amount = f"{source.rows:,} rows, {source.tokens:,} tokens, {source.reached:.1%}"
        text = f"mixed in {source.name}: {amount}"
        if source.short:
            text += f" of {source.share:.1%} asked for: the source has no more"
        console.print(text, highlight=False, markup=False)
    _retention(console, "set", summary.by_set)
    _retention(console, "characters", summary.by_length)


def _retention(console: Console, group_by: str, shares: Mapping[str, GroupCounts]) -> None:
    """Show how much is kept of each group, and which check costs it most; nothing for a single group."""
    if len(shares) < 2:
        return
    table = Table(group_by, box=None, pad_edge=False)
    for heading in ("traces", "kept", "share"):
        table.add_column(heading, justify="right")
    table.add_column("most often rejected by")
    for name, counts in shares.items():
        rejects = counts.rejects
        main_check = max(rejects, key=rejects.__getitem__, default="")
        main_rejection = f"{main_check} {rejects[main_check]:,}" if main_check else ""
        kept_share = f"{counts.kept / counts.traces:.1%}"
        table.add_row(Text(name), f"{counts.traces:,}", f"{counts.kept:,}", kept_share, main_rejection)
    console.print(table)


def plan(console: Console, run: Run, recipe: Recipe, stages: tuple[StageName, ...], redo: bool = False) -> None:
    """Show what the command would do, without doing it."""
    teacher = presets.teacher(recipe.teacher)
    student = presets.student(recipe.student)
    console.print(f"recipe {recipe.name} in {run.folder}", highlight=False, markup=False)
    console.print(
        f"teacher {teacher.name}: {teacher.model}   student {student.name}: {student.model}",
        highlight=False,
        markup=False,
    )
    stale = redo
    for name in stages:
        reasons = pipeline.reasons_to_run(pipeline.job(run, recipe, name, LogLines()), name)
        stale = stale or bool(reasons)
        console.print(f"  {name}: {'would run' if stale else 'unchanged, would be skipped'}", highlight=False)
        if reasons and run.stage(name):
            console.print(f"    {'; '.join(reasons)}", highlight=False, markup=False)
        settings = getattr(recipe, name).model_dump(mode="json", exclude_defaults=True)
        if settings:
            console.print(f"    {orjson.dumps(settings).decode()}", highlight=False, markup=False)


def rejected_trace_id(run: Run) -> str:
    """Id prefix of some rejected trace, for the hint at the end."""
    if run.verdicts_file.exists():
        for _, row in jsonl.rows(run.verdicts_file):
            if row["check"] == "decision" and not row["passed"]:
                return str(row["trace_id"])[:8]
    return "ID"
