"""`distill sft`: the student, fine-tuned on the kept traces."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import complete
from ..options import (
    DryOption,
    HereOption,
    LimitOption,
    OnOption,
    RecipeArg,
    RedoOption,
    RunOption,
    SetOption,
    StudentOption,
    SubmitOption,
)
from ..stage_command import StageCommand


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
    redo: RedoOption = False,
) -> None:
    """Fine-tune the student on the kept traces."""
    options: dict[str, object] = {"student": student, "sft.data": data, "sft.limit": limit}
    StageCommand(
        "sft", recipe, run, set_, options, dry_run=dry_run, here=here, on=on, submit=submit, redo=redo
    ).execute()
