"""`distill generate`: the teacher's traces, or a forecast of them."""

from __future__ import annotations

from typing import Annotated

import typer

from ..options import (
    DryOption,
    EndpointOption,
    HereOption,
    LimitOption,
    OnOption,
    ProblemsOption,
    RecipeArg,
    RunOption,
    SetOption,
    SubmitOption,
    TeacherOption,
)
from ..stage_command import StageCommand, endpoint_settings


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
    options: dict[str, object] = {
        "teacher": teacher,
        "generate.problems": problems,
        "generate.limit": limit,
        "generate.retry_failed": retry_failed or None,
        **endpoint_settings("generate", endpoint),
    }
    StageCommand(
        "generate", recipe, run, set_, options, dry_run=dry_run, here=here, forecast=forecast, on=on, submit=submit
    ).execute()
