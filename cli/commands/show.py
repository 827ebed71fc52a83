"""`distill show`: one trace, one problem, or the examples of a reject reason."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import complete


def show(
    id: Annotated[
        str,
        typer.Argument(metavar="ID", help="The first letters of a trace's or problem's id, or a reason of the funnel."),
    ],
    run: Annotated[Path, typer.Option("--run", metavar="DIR", help="Run folder.", autocompletion=complete.runs)] = Path(
        "runs/tiny"
    ),
) -> None:
    """Print one trace with its verdicts, one problem with its traces, or the examples of a reject reason."""
    from ..traces import show as print_it

    print_it(run, id)
