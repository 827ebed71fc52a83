"""What a study shows: its plan, and the table that compares its arms, on the terminal and as study.md."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from distill.errors import RunError, writing
from distill.evaluation import arms
from distill.evaluation.arms import Gap, Row, SeedGap
from distill.progress import Progress, duration
from distill.recipe import Recipe
from distill.study import compare, plan
from distill.study.plan import One
from distill.types import Metric


def execute(recipe: Recipe, folder: Path, progress: Progress, dry_run: bool) -> None:
    """Run a study and show its tables, or show only what it would run."""
    out = Console()
    if dry_run:
        _plan(out, plan.runs(recipe, folder), folder, plan.of(recipe).at_once)
        return
    found = compare.run(recipe, folder, progress)
    path = folder / "study.md"
    text = f"# {recipe.name}\n\n{recipe.description}\n\n" + "\n\n".join(_markdown(table) for table in found.tables)
    if not path.is_file() or path.read_text(encoding="utf-8") != text + "\n":
        with writing(path):
            path.write_text(text + "\n", encoding="utf-8")
    for table in found.tables:
        _show(out, table)
    if found.failed:
        raise RunError(
            f"{len(found.failed)} runs are not done, and their arms are missing: {', '.join(found.failed)}",
            where=str(folder),
            fix=f"the first said: {next(iter(found.failed.values()))}",
        )
    out.print(f"in {path} and {folder / 'study.json'}; one run: distill show ID --run {folder}/ARM-SEED", markup=False)


def _plan(out: Console, ones: list[One], folder: Path, at_once: int) -> None:
    arms = {one.arm: [other for other in ones if other.arm == one.arm] for one in ones}
    seeds = ", ".join(str(one.seed) for one in next(iter(arms.values())))
    title = f"{len(ones)} runs, {folder}/ARM-SEED, seeds {seeds}"
    table = Table(title=title, title_justify="left")
    for heading in ("arm", "stages", "shared with", "scores"):
        table.add_column(heading)
    for heading in ("done", "expected"):
        table.add_column(heading, justify="right")
    todo = plan.todo(ones)
    known, unknown = 0.0, set[str]()
    for arm, every in arms.items():
        left = [(one, stage) for one in every for stage in todo[one.name]]
        times = [plan.expected(one, stage, ones) for one, stage in left]
        unknown |= {stage for (_, stage), seconds in zip(left, times, strict=True) if seconds is None}
        sure = sum(seconds for seconds in times if seconds is not None)
        known += sure
        done = sum(not todo[one.name] for one in every)
        expected = "?" if None in times else duration(sure) if left else ""
        first = every[0]
        scored = first.role if "eval" in first.stages else ""
        table.add_row(arm, ", ".join(first.stages), _sources(first), scored, f"{done} of {len(every)}", expected)
    out.print(table)
    if any(todo.values()):
        each = "one after the other" if at_once == 1 else f"in {at_once} runs at a time"
        out.print(f"expected: {duration(known / at_once)} {each}, by what the runs that are done took", highlight=False)
    if unknown:
        out.print(f"not known yet, as none was done: {', '.join(sorted(unknown))}", highlight=False)


def _sources(one: One) -> str:
    """Which arms this one reads, and what of them."""
    recipe = one.recipe
    found = {"traces": recipe.filter.traces if "filter" in one.stages else ()}
    found["set"] = (recipe.sft.data,) if "sft" in one.stages and recipe.sft.data else ()
    found["problems"] = (recipe.grpo.data,) if "grpo" in one.stages and recipe.grpo.data else ()
    found["student"] = (str(one.student.parent),) if one.student else ()
    return ", ".join(
        f"{what}: {Path(folder).name.removesuffix(f'-{one.seed}')}"
        for what, folders in found.items()
        for folder in folders
    )


_HEADINGS = {"tokens": "tokens", arms.PER_TOKENS: "right per 1,000 tokens", "truncated": "cut"}


def _cells(row: Row, against: list[str]) -> list[str]:
    gaps = {gap.against: gap for gap in row.differences}
    return [
        row.arm,
        _percent(row.metrics["pass@1"]),
        *(_gap(gaps.get(other)) for other in against),
        f"{row.metrics['tokens'].value:,.0f}",
        _plain(row.metrics[arms.PER_TOKENS]),
        f"{100 * row.metrics['truncated'].value:.1f}",
    ]


def _headings(against: list[str]) -> list[str]:
    return ["arm", "pass@1", *(f"− {other}" for other in against), *_HEADINGS.values()]


def _alone(row: Row, against: list[str]) -> list[list[str]]:
    """Each seed of an arm by itself."""
    gaps = {gap.against: gap.seeds for gap in row.differences}
    return [
        [
            f"{row.arm}-{seed.seed}",
            _percent(seed.metrics["pass@1"]),
            *(_gap(gaps[other][at] if other in gaps else None) for other in against),
        ]
        for at, seed in enumerate(row.seeds)
    ]


def _against(table: arms.Table) -> list[str]:
    rows = sorted(table.rows, key=lambda row: -len(row.differences))  # one that is none of them has all, in their order
    return list(dict.fromkeys(gap.against for row in rows for gap in row.differences))


def _title(table: arms.Table) -> str:
    return f"{table.set}: {table.problems:,} problems × {table.samples} samples, percent, 95 % intervals"


def _show(out: Console, found: arms.Table) -> None:
    for title, headings, rows in _parts(found):
        table = Table(title=title, title_justify="left")
        table.add_column(headings[0], no_wrap=True, min_width=max(len(cells[0]) for cells in rows))
        for heading in headings[1:]:
            table.add_column(heading, justify="right")
        for cells in rows:
            table.add_row(*cells)
        out.print(table)


def _parts(found: arms.Table) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, headings and rows of each table."""
    against, first = _against(found), found.rows[0]
    budgets = [f"{first.budget[at].at:,}" for at in _points(first)]
    several = len(first.seeds) > 1
    alone = [cells for row in found.rows for cells in _alone(row, against)]
    return [
        (_title(found), _headings(against), [_cells(row, against) for row in found.rows]),
        *([("each seed alone", ["run", *_headings(against)[1 : 2 + len(against)]], alone)] if several else []),
        ("pass@1 had the token budget been", ["arm", *budgets], [_curve(row) for row in found.rows]),
    ]


def _curve(row: Row) -> list[str]:
    return [row.arm, *(f"{100 * row.budget[at].metrics['pass@1'].value:.1f}" for at in _points(row))]


def _points(row: Row) -> list[int]:
    """Every second point of the curve: the budget halved and halved again."""
    return list(range(len(row.budget)))[::-2][::-1]


def _markdown(found: arms.Table) -> str:
    parts = [f"{title}\n\n{_grid(headings, rows)}" for title, headings, rows in _parts(found)]
    parts.append("\n".join(f"- {row.arm}: {row.description}" for row in found.rows if row.description))
    parts.append("\n".join(f"- {name}: {said}" for name, said in arms.ABOUT.items()))
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
    return f"{_percent(gap.value, '+')} p {'<0.001' if gap.p < 0.001 else f'{gap.p:.3f}'}"
