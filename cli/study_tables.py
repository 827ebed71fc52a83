"""What a study shows: its plan, and the tables that compare its arms."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from distill.errors import RunError
from distill.evaluation.arms import ArmTable
from distill.progress import Progress, duration
from distill.recipe import Recipe
from distill.study import compare, plan, tables
from distill.study.plan import ArmOutlook


def execute(recipe: Recipe, folder: Path, progress: Progress, dry_run: bool) -> None:
    """Run a study and show its tables, or show only what it would run."""
    console = Console()
    if dry_run:
        _plan(console, plan.outlook(plan.runs(recipe, folder)), folder, plan.study_of(recipe).at_once)
        return
    result = compare.run(recipe, folder, progress)
    for table in result.tables:
        _show(console, table)
    if result.failed:
        raise RunError(
            f"{len(result.failed)} runs are not done, and their arms are missing: {', '.join(result.failed)}",
            where=str(folder),
            fix=f"the first said: {next(iter(result.failed.values()))}",
        )
    files = f"{folder / 'study.md'} and {folder / 'study.json'}"
    console.print(f"in {files}; one run: distill show ID --run {folder}/ARM-SEED", markup=False)


def _plan(console: Console, outlooks: dict[str, ArmOutlook], folder: Path, at_once: int) -> None:
    run_count = sum(len(outlook.runs) for outlook in outlooks.values())
    seeds = ", ".join(str(arm_run.seed) for arm_run in next(iter(outlooks.values())).runs)
    title = f"{run_count} runs, {folder}/ARM-SEED, seeds {seeds}"
    table = Table(title=title, title_justify="left")
    for heading in ("arm", "stages", "shared with", "scores"):
        table.add_column(heading)
    for heading in ("done", "expected"):
        table.add_column(heading, justify="right")
    for arm_name, outlook in outlooks.items():
        first_run = outlook.runs[0]
        shared = [f"{content}: {name}" for content, names in plan.sources(first_run).items() for name in names]
        table.add_row(
            arm_name,
            ", ".join(first_run.stages),
            ", ".join(shared),
            first_run.role if "eval" in first_run.stages else "",
            f"{outlook.done} of {len(outlook.runs)}",
            _expected(outlook),
        )
    console.print(table)
    if any(outlook.stages_left for outlook in outlooks.values()):
        pace = "one after the other" if at_once == 1 else f"in {at_once} runs at a time"
        time_left = duration(sum(outlook.seconds for outlook in outlooks.values()) / at_once)
        console.print(f"expected: {time_left} {pace}, by what the runs that are done took", highlight=False)
    unmeasured_stages = {stage for outlook in outlooks.values() for stage in outlook.unmeasured}
    if unmeasured_stages:
        console.print(f"not known yet, as none was done: {', '.join(sorted(unmeasured_stages))}", highlight=False)


def _expected(outlook: ArmOutlook) -> str:
    if outlook.unmeasured:
        return "?"
    return duration(outlook.seconds) if outlook.stages_left else ""


def _show(console: Console, arm_table: ArmTable) -> None:
    for title, headings, rows in tables.tables(arm_table):
        table = Table(title=title, title_justify="left")
        table.add_column(headings[0], no_wrap=True, min_width=max(len(cells[0]) for cells in rows))
        for heading in headings[1:]:
            table.add_column(heading, justify="right")
        for cells in rows:
            table.add_row(*cells)
        console.print(table)
