"""`distill report`: writes the page and says where it is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from distill import recipe as recipes
from distill.progress import LOG, Lines, Progress
from distill.run import Run
from distill.stages import report
from distill.stages.report import Config

from . import settings
from .progress import Bar


def execute(ref: str | None, folders: Sequence[Path], out: Path | None, changes: Sequence[str]) -> None:
    """
    Args:
        ref: a recipe whose run is meant where no folder is given.
        folders: of the runs; found by the recipe's name, or the default one's, when there are none.
    """
    config = settings.build(Config, "report", {"out": out}, changes)
    if not folders:
        folders = [Path("runs") / (recipes.load(ref).name if ref else recipes.DEFAULT)]
    screen = Console(stderr=True)
    progress: Progress = Bar(screen) if screen.is_terminal else Lines()
    LOG.setLevel(logging.INFO)
    LOG.handlers = [logging.StreamHandler()]
    told = report.run([Run(folder) for folder in folders], config, progress)
    console = Console()
    console.print(
        f"{told['file']}: {_size(told['bytes'])}; open it in any browser", highlight=False, markup=False, soft_wrap=True
    )
    for reason in told["left_out"]:
        console.print(f"left out: {reason}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"next: {told['next']}", highlight=False, markup=False, soft_wrap=True)


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.0f} kB"
