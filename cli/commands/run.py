"""`distill run`: all stages of a recipe, or all arms of a study."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import complete
from ..options import (
    DryOption,
    LimitOption,
    OnOption,
    RedoOption,
    RunOption,
    SetOption,
    StudentOption,
    SubmitOption,
    TeacherOption,
)
from ..stage_command import StageCommand


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
    redo: RedoOption = False,
) -> None:
    """All stages of a recipe, one after the other; what is unchanged is skipped, what was cut off goes on."""
    options: dict[str, object] = {"generate.limit": limit, "eval.limit": limit, "teacher": teacher, "student": student}
    StageCommand(None, recipe, run, set_, options, dry_run=dry_run, on=on, submit=submit, redo=redo).execute()
