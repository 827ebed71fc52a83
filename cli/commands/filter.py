"""`distill filter`: verdicts and the set to train on."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import complete
from ..options import HereOption, LimitOption, RecipeArg, RedoOption, RunOption, SetOption, StudentOption, SubmitOption
from ..stage_command import StageCommand


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
    redo: RedoOption = False,
) -> None:
    """Every check on every trace: verdicts with reasons, a funnel, and the set to train on."""
    options: dict[str, object] = {"filter.traces": traces or None, "student": student, "filter.limit": limit}
    if on != "slurm":
        options["filter.on"] = on
    StageCommand(
        "filter", recipe, run, set_, options, dry_run=dry_run, here=here, on=on, submit=submit, redo=redo
    ).execute()
