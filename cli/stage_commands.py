"""The commands that run stages: a whole recipe, or one after the other by hand."""

# ruff: noqa: PLR0913, PLR0917 - a command takes as many arguments as it has options

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import complete
from .boundary import guarded
from .options import (
    DryOption,
    EndpointOption,
    HereOption,
    LimitOption,
    OnOption,
    ProblemsOption,
    RecipeArg,
    RunOption,
    SetOption,
    StudentOption,
    SubmitOption,
    TeacherOption,
)

if TYPE_CHECKING:
    from distill.recipe import StageName


def run_command(
    recipe: Annotated[
        str,
        typer.Argument(help="A shipped recipe (`distill ls recipes`) or a .yaml.", autocompletion=complete.recipes),
    ],
    run: RunOption = None,
    set_: SetOption = None,
    limit: LimitOption = None,
    teacher: TeacherOption = None,
    student: StudentOption = None,
    on: OnOption = None,
    submit: SubmitOption = False,
    dry_run: DryOption = False,
) -> None:
    """All stages of a recipe, one after the other; what is unchanged is skipped, what was cut off goes on."""
    named = {"generate.limit": limit, "eval.limit": limit, "teacher": teacher, "student": student}
    _stages(None, recipe, run, set_, named, dry_run, on=on, submit=submit)


def generate(
    recipe: RecipeArg = None,
    teacher: TeacherOption = None,
    problems: ProblemsOption = None,
    endpoint: EndpointOption = None,
    run: RunOption = None,
    set_: SetOption = None,
    limit: LimitOption = None,
    forecast: Annotated[
        int | None,
        typer.Option(metavar="N", min=2, help="Sample only N of the problems, and say what all of them will take."),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask again what the engine refused before.")
    ] = False,
    on: OnOption = None,
    submit: SubmitOption = False,
    dry_run: DryOption = False,
    here: HereOption = False,
) -> None:
    """Sample the teacher; every trace is on disk as soon as it is finished, and the same command resumes."""
    named = {
        "teacher": teacher,
        "generate.problems": problems,
        "generate.limit": limit,
        "generate.retry_failed": retry_failed or None,
        **_joined("generate", endpoint),
    }
    _stages("generate", recipe, run, set_, named, dry_run, here, forecast, on, submit)


def filter_command(
    recipe: RecipeArg = None,
    traces: Annotated[
        list[str] | None,
        typer.Option(
            "--traces",
            metavar="DIR",
            help="Read another run's traces; repeat for more.",
            autocompletion=complete.runs,
        ),
    ] = None,
    student: StudentOption = None,
    run: RunOption = None,
    set_: SetOption = None,
    limit: LimitOption = None,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="`here`; `ray`: a Ray cluster judges; `slurm`: a batch script.",
            autocompletion=complete.one_of("here", "ray", "slurm"),
        ),
    ] = None,
    submit: SubmitOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the funnel and change nothing.")] = False,
    here: HereOption = False,
) -> None:
    """Every check on every trace: verdicts with reasons, a funnel, and the set to train on."""
    named = {"filter.traces": traces or None, "student": student, "filter.limit": limit}
    if on != "slurm":
        named["filter.on"] = on
    _stages("filter", recipe, run, set_, named, dry_run, here, on=on, submit=submit)


def sft(
    recipe: RecipeArg = None,
    student: StudentOption = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Train on another run's kept traces.", autocompletion=complete.runs),
    ] = None,
    run: RunOption = None,
    set_: SetOption = None,
    limit: LimitOption = None,
    on: OnOption = None,
    submit: SubmitOption = False,
    dry_run: DryOption = False,
    here: HereOption = False,
) -> None:
    """Fine-tune the student on the kept traces."""
    named = {"student": student, "sft.data": data, "sft.limit": limit}
    _stages("sft", recipe, run, set_, named, dry_run, here, on=on, submit=submit)


def grpo(
    recipe: RecipeArg = None,
    problems: ProblemsOption = None,
    student: StudentOption = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Another run's problems and pass rates.", autocompletion=complete.runs),
    ] = None,
    run: RunOption = None,
    set_: SetOption = None,
    limit: LimitOption = None,
    on: OnOption = None,
    submit: SubmitOption = False,
    dry_run: DryOption = False,
    here: HereOption = False,
) -> None:
    """Let the fine-tuned student learn from rewards on its own completions."""
    named = {"grpo.problems": problems, "student": student, "grpo.data": data, "grpo.limit": limit}
    _stages("grpo", recipe, run, set_, named, dry_run, here, on=on, submit=submit)


def eval_command(
    recipe: RecipeArg = None,
    problems: ProblemsOption = None,
    student: StudentOption = None,
    endpoint: EndpointOption = None,
    run: RunOption = None,
    set_: SetOption = None,
    limit: LimitOption = None,
    rescore: Annotated[
        bool, typer.Option("--rescore", help="Sample nothing: judge again what is there, without model or engine.")
    ] = False,
    on: OnOption = None,
    submit: SubmitOption = False,
    dry_run: DryOption = False,
    here: HereOption = False,
) -> None:
    """Score teacher, base and student on unseen problems, with intervals."""
    named = {
        "eval.problems": problems,
        "student": student,
        "eval.limit": limit,
        "eval.rescore": None if here else rescore,  # a launched command does as it was told, and no later one does
        **_joined("eval", endpoint),
    }
    _stages("eval", recipe, run, set_, named, dry_run, here, on=on, submit=submit)


def _joined(stage: str, endpoints: list[str] | None) -> dict[str, Any]:
    if not endpoints:
        return {}
    return {f"{stage}.backend.kind": "vllm", f"{stage}.backend.endpoints": endpoints}


def _stages(
    stage: StageName | None,
    recipe: str | None,
    run: Path | None,
    changes: list[str] | None,
    named: dict[str, Any],
    dry_run: bool,
    here: bool = False,
    pilot: int | None = None,
    on: str | None = None,
    submit: bool = False,
) -> None:
    given = {name: value for name, value in named.items() if value is not None}

    def act() -> None:
        if on or submit:
            from . import batch

            if batch.wanted(stage, on, submit, pilot):
                batch.execute(stage, recipe, run, changes or [], given, dry_run, submit)
                return
        from .stages import execute

        execute(stage, recipe, run, changes or [], given, dry_run, here, pilot)

    guarded(act)
