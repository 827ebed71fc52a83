"""`distill report`: writes the page and says where it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import complete
from ..options import RecipeArg
from ..printing import say


def report(
    recipe: RecipeArg = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            "--run",
            metavar="DIR",
            help="Run folder; repeat for several side by side.  [default: runs/RECIPE]",
            autocompletion=complete.runs,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="The page.  [default: DIR/report.html; of several runs ./report.html]"
        ),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="A=B", help="report.traces=N: how many to take in; 0: none.")
    ] = None,
) -> None:
    """One page that needs no network: funnel, lengths, pass rates, tokens, curves, scores, and the traces to search."""
    import logging

    from distill import recipe as recipes
    from distill.progress import LOG
    from distill.run import Run
    from distill.settings import overrides
    from distill.stages import report as stage

    from .. import progress

    config = overrides.configure(stage.Config, "report", {"out": out}, set_ or ())
    folders = run or [Path("runs") / (recipes.load(recipe).name if recipe else recipes.DEFAULT_RECIPE)]
    LOG.setLevel(logging.INFO)
    LOG.handlers = [logging.StreamHandler()]
    result = stage.run([Run(folder) for folder in folders], config, progress.on_stderr())
    say(result.line())
    for reason in result.left_out:
        say(f"left out: {reason}")
    say(f"next: {result.next}")
