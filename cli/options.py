"""Arguments and options that several commands share, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import complete

RecipeArg = Annotated[
    str | None,
    typer.Argument(
        metavar="[RECIPE]",
        help="A shipped recipe (`distill ls recipes`) or a .yaml.  [default: the run folder's own, else r1-distill]",
        autocompletion=complete.recipes,
    ),
]
RunOption = Annotated[
    Path | None,
    typer.Option("--run", metavar="DIR", help="Run folder.  [default: runs/RECIPE]", autocompletion=complete.runs),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Change any recipe value, such as sft.epochs=2; repeat for more."),
]
LimitOption = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Only the first N.")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and stop.")]
TEACHER = typer.Option(help="A preset (`distill ls teachers`), a Hub id or a path.", autocompletion=complete.teachers)
TeacherOption = Annotated[str | None, TEACHER]
StudentOption = Annotated[
    str | None,
    typer.Option(help="A preset (`distill ls students`), a Hub id or a path.", autocompletion=complete.students),
]
ProblemsOption = Annotated[
    str | None,
    typer.Option(
        metavar="SET",
        help="A set (`distill ls problems`), `set:split`, or a .yaml or .jsonl.",
        autocompletion=complete.problems,
    ),
]
EndpointOption = Annotated[
    list[str] | None, typer.Option("--endpoint", metavar="URL", help="A running vLLM server to join; repeat for more.")
]
OnOption = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="PLACE",
        help="`here`, or `slurm`: write a batch script for the cluster.",
        autocompletion=complete.one_of("here", "slurm"),
    ),
]
SubmitOption = Annotated[bool, typer.Option("--submit", help="With --on slurm: also submit.")]
RedoOption = Annotated[bool, typer.Option("--redo", help="Do again what is finished and unchanged.")]
HereOption = Annotated[bool, typer.Option("--here", hidden=True)]
