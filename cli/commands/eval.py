"""`distill eval`: scores of teacher, base and student."""

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
    RedoOption,
    RunOption,
    SetOption,
    StudentOption,
    SubmitOption,
)
from ..stage_command import StageCommand, endpoint_settings


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
    redo: RedoOption = False,
) -> None:
    """Score teacher, base and student on unseen problems, with intervals."""
    options: dict[str, object] = {
        "eval.problems": problems,
        "student": student,
        "eval.limit": limit,
        "eval.rescore": None if here else rescore,  # a launched command does as it was told, and no later one does
        **endpoint_settings("eval", endpoint),
    }
    StageCommand(
        "eval", recipe, run, set_, options, dry_run=dry_run, here=here, on=on, submit=submit, redo=redo
    ).execute()
