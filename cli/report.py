"""`distill report`: writes the page and says where it is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from distill import recipe as recipes
from distill.progress import LOG, LogLines, Progress
from distill.run import Run
from distill.stages import report
from distill.stages.report import Config

from . import settings
from .progress import Bar


def execute(ref: str | None, folders: Sequence[Path], page_path: Path | None, changes: Sequence[str]) -> None:
    """Write the page and print where it is.

    Args:
        ref: a recipe whose run is meant where no folder is given.
        folders: of the runs; found by the recipe's name, or the default one's, when there are none.
    """
    config = settings.build(Config, "report", {"out": page_path}, changes)
    if not folders:
        name = recipes.load(ref).name if ref else recipes.DEFAULT_RECIPE
        folders = [Path("runs") / name]
    stderr_console = Console(stderr=True)
    progress: Progress = Bar(stderr_console) if stderr_console.is_terminal else LogLines()
    LOG.setLevel(logging.INFO)
    LOG.handlers = [logging.StreamHandler()]
    result = report.run([Run(folder) for folder in folders], config, progress)
    console = Console()
    for line in (result.line(), *(f"left out: {reason}" for reason in result.left_out), f"next: {result.next}"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
