"""`distill is-done`: what a batch job asks when it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def is_done(
    stage: Annotated[str, typer.Argument(metavar="STAGE")],
    run: Annotated[Path, typer.Option("--run", metavar="DIR", help="Run folder.")],
) -> None:
    """Status 0 if nothing is left to do in this stage of the run, else 3: what a batch job asks when it ends."""
    from distill import batch

    if not batch.is_done(stage, run):
        raise typer.Exit(3)
