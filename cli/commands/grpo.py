"""`distill grpo`: the student, after reinforcement on its own completions."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import complete
from ..options import (
    DryOption,
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
from ..stage_command import StageCommand


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
    redo: RedoOption = False,
) -> None:
    """Let the fine-tuned student learn from rewards on its own completions."""
    options: dict[str, object] = {"grpo.problems": problems, "student": student, "grpo.data": data, "grpo.limit": limit}
    StageCommand(
        "grpo", recipe, run, set_, options, dry_run=dry_run, here=here, on=on, submit=submit, redo=redo
    ).execute()
