"""What a study shows: its plan, and the table that compares its arms, on the terminal and as study.md."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from distill.errors import RunError, writing
from distill.evaluation import arms
from distill.evaluation.arms import ArmRow, Gap, SeedGap
from distill.progress import Progress, duration
from distill.recipe import Recipe
from distill.study import compare, plan
from distill.study.plan import StudyRun
from distill.types import Metric


def execute(recipe: Recipe, folder: Path, progress: Progress, dry_run: bool) -> None:
    """Run a study and show its tables, or show only what it would run."""
    console = Console()
    if dry_run:
        _plan(console, plan.runs(recipe, folder), folder, plan.study_of(recipe).at_once)
        return
    result = compare.run(recipe, folder, progress)
    path = folder / "study.md"
    text = f"# {recipe.name}\n\n{recipe.description}\n\n" + "\n\n".join(_markdown(table) for table in result.tables)
    if not path.is_file() or path.read_text(encoding="utf-8") != text + "\n":
        with writing(path):
            path.write_text(text + "\n", encoding="utf-8")
    for table in result.tables:
        _show(console, table)
    if result.failed:
        raise RunError(
            f"{len(result.failed)} runs are not done, and their arms are missing: {', '.join(result.failed)}",
            where=str(folder),
            fix=f"the first said: {next(iter(result.failed.values()))}",
        )
    console.print(
        f"in {path} and {folder / 'study.json'}; one run: distill show ID --run {folder}/ARM-SEED", markup=False
    )


def _plan(console: Console, arm_runs: list[StudyRun], folder: Path, at_once: int) -> None:
    runs_by_arm: dict[str, list[StudyRun]] = {}
    for arm_run in arm_runs:
        runs_by_arm.setdefault(arm_run.arm, []).append(arm_run)
    seeds = ", ".join(str(arm_run.seed) for arm_run in next(iter(runs_by_arm.values())))
    title = f"{len(arm_runs)} runs, {folder}/ARM-SEED, seeds {seeds}"
    table = Table(title=title, title_justify="left")
    for heading in ("arm", "stages", "shared with", "scores"):
        table.add_column(heading)
    for heading in ("done", "expected"):
        table.add_column(heading, justify="right")
    todo = plan.todo(arm_runs)
    known_seconds = 0.0
    unmeasured_stages: set[str] = set()
    for arm_name, runs_of_arm in runs_by_arm.items():
        stages_left = [(arm_run, stage) for arm_run in runs_of_arm for stage in todo[arm_run.name]]
        durations = [plan.expected_seconds(arm_run, stage, arm_runs) for arm_run, stage in stages_left]
        for (_, stage), seconds in zip(stages_left, durations, strict=True):
            if seconds is None:
                unmeasured_stages.add(stage)
        known_here = sum(seconds for seconds in durations if seconds is not None)
        known_seconds += known_here
        done = sum(not todo[arm_run.name] for arm_run in runs_of_arm)
        expected = ""
        if None in durations:
            expected = "?"
        elif stages_left:
            expected = duration(known_here)
        first_run = runs_of_arm[0]
        table.add_row(
            arm_name,
            ", ".join(first_run.stages),
            _sources(first_run),
            first_run.role if "eval" in first_run.stages else "",
            f"{done} of {len(runs_of_arm)}",
            expected,
        )
    console.print(table)
    if any(todo.values()):
        pace = "one after the other" if at_once == 1 else f"in {at_once} runs at a time"
        time_left = duration(known_seconds / at_once)
        console.print(f"expected: {time_left} {pace}, by what the runs that are done took", highlight=False)
    if unmeasured_stages:
        console.print(f"not known yet, as none was done: {', '.join(sorted(unmeasured_stages))}", highlight=False)


def _sources(arm_run: StudyRun) -> str:
    """Which arms a run reads, and what of them."""
    recipe = arm_run.recipe
    folders: list[tuple[str, str]] = []
    if "filter" in arm_run.stages:
        folders += [("traces", folder) for folder in recipe.filter.traces]
    if "sft" in arm_run.stages and recipe.sft.data:
        folders.append(("set", recipe.sft.data))
    if "grpo" in arm_run.stages and recipe.grpo.data:
        folders.append(("problems", recipe.grpo.data))
    if arm_run.student:
        folders.append(("student", str(arm_run.student.parent)))
    return ", ".join(f"{content}: {Path(folder).name.removesuffix(f'-{arm_run.seed}')}" for content, folder in folders)


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


def _baselines(arm_table: arms.ArmTable) -> list[str]:
    """The arms that the others are compared with, in their order."""
    rows = sorted(arm_table.rows, key=lambda row: -len(row.differences))  # an arm that is no baseline has them all
    return list(dict.fromkeys(gap.against for row in rows for gap in row.differences))


def _title(arm_table: arms.ArmTable) -> str:
    return f"{arm_table.set}: {arm_table.problems:,} problems × {arm_table.samples} samples, percent, 95 % intervals"


def _show(console: Console, arm_table: arms.ArmTable) -> None:
    for title, headings, rows in _tables(arm_table):
        table = Table(title=title, title_justify="left")
        table.add_column(headings[0], no_wrap=True, min_width=max(len(cells[0]) for cells in rows))
        for heading in headings[1:]:
            table.add_column(heading, justify="right")
        for cells in rows:
            table.add_row(*cells)
        console.print(table)


def _tables(arm_table: arms.ArmTable) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, headings and rows of each table."""
    baselines = _baselines(arm_table)
    headings = _headings(baselines)
    tables = [(_title(arm_table), headings, [_cells(row, baselines) for row in arm_table.rows])]
    first_row = arm_table.rows[0]
    if len(first_row.seeds) > 1:
        seed_rows = [cells for row in arm_table.rows for cells in _seed_cells(row, baselines)]
        tables.append(("each seed alone", ["run", *headings[1 : 2 + len(baselines)]], seed_rows))
    budgets = [f"{first_row.budget[index].at:,}" for index in _budget_indices(first_row)]
    budget_rows = [_curve(row) for row in arm_table.rows]
    tables.append(("pass@1 had the token budget been", ["arm", *budgets], budget_rows))
    return tables


def _curve(row: ArmRow) -> list[str]:
    return [row.arm, *(f"{100 * row.budget[index].metrics['pass@1'].value:.1f}" for index in _budget_indices(row))]


def _budget_indices(row: ArmRow) -> list[int]:
    """Indices of every second point of the curve: the budget halved and halved again."""
    return list(range(len(row.budget)))[::-2][::-1]


def _markdown(arm_table: arms.ArmTable) -> str:
    parts = [f"{title}\n\n{_grid(headings, rows)}" for title, headings, rows in _tables(arm_table)]
    parts.append("\n".join(f"- {row.arm}: {row.description}" for row in arm_table.rows if row.description))
    parts.append("\n".join(f"- {name}: {meaning}" for name, meaning in arms.ABOUT.items()))
    return "\n\n".join(part for part in parts if part)


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
