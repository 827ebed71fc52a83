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
    RedoOption,
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
    redo: RedoOption = False,
    dry_run: DryOption = False,
) -> None:
    """All stages of a recipe, one after the other; what is unchanged is skipped, what was cut off goes on."""
    option_changes = {"generate.limit": limit, "eval.limit": limit, "teacher": teacher, "student": student}
    _run_stages(None, recipe, run, set_, option_changes, dry_run, launcher=on, submit=submit, redo=redo)


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
    option_changes = {
        "teacher": teacher,
        "generate.problems": problems,
        "generate.limit": limit,
        "generate.retry_failed": retry_failed or None,
        **_endpoint_settings("generate", endpoint),
    }
    _run_stages("generate", recipe, run, set_, option_changes, dry_run, here, forecast, on, submit)


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
    redo: RedoOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the funnel and change nothing.")] = False,
    here: HereOption = False,
) -> None:
    """Every check on every trace: verdicts with reasons, a funnel, and the set to train on."""
    option_changes = {"filter.traces": traces or None, "student": student, "filter.limit": limit}
    if on != "slurm":
        option_changes["filter.on"] = on
    _run_stages("filter", recipe, run, set_, option_changes, dry_run, here, launcher=on, submit=submit, redo=redo)


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
    redo: RedoOption = False,
    dry_run: DryOption = False,
    here: HereOption = False,
) -> None:
    """Fine-tune the student on the kept traces."""
    option_changes = {"student": student, "sft.data": data, "sft.limit": limit}
    _run_stages("sft", recipe, run, set_, option_changes, dry_run, here, launcher=on, submit=submit, redo=redo)


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
    redo: RedoOption = False,
    dry_run: DryOption = False,
    here: HereOption = False,
) -> None:
    """Let the fine-tuned student learn from rewards on its own completions."""
    option_changes = {"grpo.problems": problems, "student": student, "grpo.data": data, "grpo.limit": limit}
    _run_stages("grpo", recipe, run, set_, option_changes, dry_run, here, launcher=on, submit=submit, redo=redo)


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
    redo: RedoOption = False,
    dry_run: DryOption = False,
    here: HereOption = False,
) -> None:
    """Score teacher, base and student on unseen problems, with intervals."""
    option_changes = {
        "eval.problems": problems,
        "student": student,
        "eval.limit": limit,
        "eval.rescore": None if here else rescore,  # a launched command does as it was told, and no later one does
        **_endpoint_settings("eval", endpoint),
    }
    _run_stages("eval", recipe, run, set_, option_changes, dry_run, here, launcher=on, submit=submit, redo=redo)


def _endpoint_settings(stage: str, endpoints: list[str] | None) -> dict[str, Any]:
    if not endpoints:
        return {}
    return {f"{stage}.backend.kind": "vllm", f"{stage}.backend.endpoints": endpoints}


def _run_stages(
    stage: StageName | None,
    recipe: str | None,
    run: Path | None,
    changes: list[str] | None,
    option_changes: dict[str, Any],
    dry_run: bool,
    force_here: bool = False,
    pilot: int | None = None,
    launcher: str | None = None,
    submit: bool = False,
    redo: bool = False,
) -> None:
    given_options = {name: value for name, value in option_changes.items() if value is not None}

    def act() -> None:
        if launcher or submit:
            from . import batch

            if batch.wants_batch_jobs(stage, launcher, submit, pilot):
                batch.execute(stage, recipe, run, changes or [], given_options, dry_run, submit, redo)
                return
        from .stages import execute

        execute(stage, recipe, run, changes or [], given_options, dry_run, force_here, pilot, redo)

    guarded(act)
