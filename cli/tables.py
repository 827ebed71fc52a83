"""Tables for people: what a stage did, the filter's funnel, the scores, the plan of a dry run."""

from __future__ import annotations

from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from distill import pipeline
from distill.models import presets
from distill.pipeline import Done
from distill.progress import Lines, duration
from distill.recipe import Recipe, StageName
from distill.run import Run
from distill.sampling.forecast import Forecast
from distill.store import jsonl

from .scores import scores


def stage(out: Console, done: Done, run: Run) -> None:
    """One line on a stage, and its table where it has one."""
    took = "unchanged" if done.fresh else f"done in {duration(done.seconds)}"
    out.print(f"[bold]{done.stage}[/bold] {took}: {_line(done)}", highlight=False)
    if done.stage == "filter":
        funnel(out, done.summary)
    if done.stage == "eval":
        scores(out, run)


def _line(done: Done) -> str:
    s = done.summary
    if done.stage == "generate":
        speed = f", {s['tokens']:,} tokens at {s['tokens_per_second']:,.0f}/s" if s.get("tokens_per_second") else ""
        text = f"{s['traces']:,} traces of {s['problems']:,} problems ({s['sampled_now']:,} new{speed})"
        if s["failed"]:
            text += f"; {s['failed']:,} requests refused, see failures.jsonl"
        if s["rejected_problems"]:
            first = s["first_rejected"][0]
            text += f"; {s['rejected_problems']:,} problem rows set aside in problems.rejected.jsonl"
            text += f" (first: line {first['line']}, {first['reason']})"
        return text
    if done.stage == "filter":
        known = f" ({s['reused']:,} judged before)" if s["reused"] else ""
        return f"{s['kept']:,} of {s['traces']:,} traces kept{known}, {s['tokens']['total']:,} student tokens"
    if done.stage == "sft":
        lost = f", {s['dropped_too_long']:,} too long and left out" if s["dropped_too_long"] else ""
        stops = f", {s['stops']['ended']} of {s['stops']['asked']} replies stop" if s["stops"] else ""
        loss = f"loss {s['first_loss']:.3f} → {s['last_loss']:.3f}"
        return f"{s['rows']:,} rows{lost}, {s['steps']:,} steps, {loss}{stops}"
    if done.stage == "grpo":
        reward = f"mean reward {s['first_reward']:.3f} → {s['last_reward']:.3f}"
        return f"{s['prompts']['rows']:,} prompts, {s['steps']:,} steps, {reward}"
    missing = f"; {s['missing']:,} samples missing, see eval/*.failures.jsonl" if s.get("missing") else ""
    return f"{s['problems']:,} problems{missing}"


def forecast(out: Console, found: Forecast) -> None:
    """What a whole problem set will take and yield, after a pilot."""
    title = f"forecast of {found.problems:,} problems from {found.pilot:,}, 95 % intervals"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for heading in ("in all", "from", "to", "done"):
        table.add_column(heading, justify="right", no_wrap=True)
    amounts = {
        "completion tokens": found.tokens,
        "prompt tokens": found.prompt_tokens,
        "traces": found.traces,
        "accepted traces": found.accepted,
        "problems solved": found.solved,
    }
    for name, amount in amounts.items():
        table.add_row(name, *(f"{value:,.0f}" for value in (amount.value, amount.low, amount.high, amount.done)))
    disk = found.disk
    table.add_row("traces.jsonl, MB", *(f"{v / 1e6:,.1f}" for v in (disk.value, disk.low, disk.high, disk.done)))
    engines = f"engine-hours ({found.engines} at once)" if found.engines > 1 else "engine-hours"
    figures = {
        "tokens per accepted": (found.tokens_per_accepted, ",.0f"),
        "tokens/s, engines full": (found.tokens_per_second, ",.0f"),
        "hours": (found.hours if found.engines > 1 else None, ",.2f"),
        engines: (found.engine_hours, ",.2f"),
        "cost": (found.cost, ",.2f"),
    }
    for name, (figure, form) in figures.items():
        if figure:
            bounds = ("" if bound is None else format(bound, form) for bound in (figure.low, figure.high))
            table.add_row(name, format(figure.value, form), *bounds, "")
    out.print(table)
    for note in ("hours are without starting the engine", *found.notes):
        out.print(note, highlight=False, markup=False)


def funnel(out: Console, summary: dict[str, Any]) -> None:
    table = Table(title=f"filter: {summary['traces']:,} traces", title_justify="left")
    table.add_column("check")
    for heading in ("rejects", "only it", "left"):
        table.add_column(heading, justify="right")
    table.add_column("reasons")
    for row in summary["checks"]:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in row["reasons"].items())
        table.add_row(row["check"], f"{row['rejects']:,}", f"{row['only']:,}", f"{row['left']:,}", reasons)
    table.add_row("undecidable", f"{summary['undecidable']:,}", "", "", "", end_section=True)
    table.add_row("[bold]kept[/bold]", "", "", f"[bold]{summary['kept']:,}[/bold]", "")
    out.print(table)
    for drawn in summary["mix"]:
        text = f"mixed in {drawn['name']}: {drawn['rows']:,} rows, {drawn['tokens']:,} tokens, {drawn['reached']:.1%}"
        short = f" of {drawn['share']:.1%} asked for: the source has no more" if drawn["short"] else ""
        out.print(text + short, highlight=False, markup=False)
    _retention(out, "set", summary["by_set"])
    _retention(out, "characters", summary["by_length"])


def _retention(out: Console, what: str, shares: dict[str, dict[str, Any]]) -> None:
    """How much is kept of each group, and which check costs it most; nothing for a single group."""
    if len(shares) < 2:
        return
    table = Table(what, box=None, pad_edge=False)
    for heading in ("traces", "kept", "share"):
        table.add_column(heading, justify="right")
    table.add_column("most often rejected by")
    for name, counts in shares.items():
        most = max(counts["rejects"], key=counts["rejects"].__getitem__, default="")
        share = f"{counts['kept'] / counts['traces']:.1%}"
        worst = f"{most} {counts['rejects'][most]:,}" if most else ""
        table.add_row(Text(name), f"{counts['traces']:,}", f"{counts['kept']:,}", share, worst)
    out.print(table)


def plan(out: Console, run: Run, recipe: Recipe, stages: tuple[StageName, ...]) -> None:
    """What the command would do, without doing it."""
    teacher, student = presets.teacher(recipe.teacher), presets.student(recipe.student)
    out.print(f"recipe {recipe.name} in {run.folder}", highlight=False, markup=False)
    out.print(
        f"teacher {teacher.name}: {teacher.model}   student {student.name}: {student.model}",
        highlight=False,
        markup=False,
    )
    stale = False
    for name in stages:
        stale = stale or not pipeline.is_fresh(pipeline.job(run, recipe, name, Lines()), name)
        out.print(f"  {name}: {'would run' if stale else 'unchanged, would be skipped'}", highlight=False)
        settings = getattr(recipe, name).model_dump(mode="json", exclude_defaults=True)
        if settings:
            out.print(f"    {orjson.dumps(settings).decode()}", highlight=False, markup=False)


def a_rejected(run: Run) -> str:
    """Id prefix of some rejected trace, for the hint at the end."""
    if run.verdicts.exists():
        for _, row in jsonl.rows(run.verdicts):
            if row["check"] == "decision" and not row["passed"]:
                return str(row["trace_id"])[:8]
    return "ID"
